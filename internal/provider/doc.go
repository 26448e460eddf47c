// Package provider is what Terraform sees: the provider byok, its resource
// byok_key, its data source byok_keys and its functions, each in its own file.
//
// Every Terraform call does the same: read the model, call the client, write the
// model. What a plan does to a key is decided by pure functions (key_plan.go)
// over a model (key_model.go) and a record in private state (key_record.go),
// none of which does I/O. Unchanged keys take a fast path in front of
// the framework (key_fastpath.go, package fastpath). Every error text is in diagnostics.go. HTTP lives in
// package client, the arithmetic of the cap in package ledger.
//
// What the calls of one plan or apply share is in the operation that Configure
// creates (provider.go). Only main calls this package.
package provider
