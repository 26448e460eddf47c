// Package provider is what Terraform sees: the provider byok, its resources
// byok_key and byok_pool, its data source byok_keys and its functions, each in
// its own file.
//
// Every Terraform call does the same: read the model, call the client, write the
// model. What a plan does to a key is decided by pure functions (key_plan.go)
// over a model (key_model.go) and a record in private state (key_record.go),
// none of which does I/O. A pool (pool_*.go) decides about each of its keys with
// the same functions; pool_write.go carries its plan out. Unchanged resources
// take a fast path in front of the framework (key_fastpath.go, package fastpath).
// Error texts are in diagnostics.go and pool_diagnostics.go. HTTP lives in
// package client, the arithmetic of the cap in package ledger.
//
// What the calls of one plan or apply share is in the operation that Configure
// creates (provider.go). Only main calls this package.
package provider
