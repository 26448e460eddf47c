// Package provider is what Terraform sees: the provider byok, its resource
// byok_key, its data source byok_keys and its functions, one file a thing.
//
// A Terraform call walks one way: read the model, call the client, write the
// model. What a plan does to a key is decided by pure functions (key_plan.go)
// over a model (key_model.go) and a record in private state (key_record.go),
// none of which does I/O. Keys that stay as they are take a shortcut in front of
// the framework (shortcut.go). Every error text is in diagnostics.go. HTTP lives in
// package client, the arithmetic of the cap in package ledger.
//
// Everything that one Terraform walk shares hangs on the walk that Configure
// builds. Only main calls this package.
package provider
