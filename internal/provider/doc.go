// Package provider is what Terraform sees: the provider byok, its resources
// byok_key and byok_pool, its data source byok_keys and its functions, one file
// a thing.
//
// A Terraform call goes one way: read the model, call the client, write the
// model. What a plan does to a key is decided by pure functions (key_plan.go)
// over a model (key_model.go) and a record in private state (key_record.go),
// none of which does I/O. A pool (pool_*.go) decides about each of its keys with
// the same functions; pool_write.go carries its plan out. Resources that do not
// change are answered in front of the framework (package fastpath). Error texts
// are in diagnostics.go and pool_diagnostics.go. HTTP lives in package client, the
// arithmetic of the cap in package ledger.
//
// What all calls of one Terraform operation share is in the operation that
// Configure builds. Only main calls this package.
package provider
