// Package doctest tests the documents: pages, examples and pipeline files. It
// has tests only. What a page says about one feature is tested beside that
// feature; here is what holds for all pages.
package doctest
