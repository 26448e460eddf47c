// Package client speaks the workspace BYOK API over HTTP: requests,
// authentication, retries, typed errors, and the snapshot that all reads of
// one Terraform walk share.
//
// It knows nothing of Terraform's types and decides nothing about plans; the
// provider builds one Client per walk and turns *Error kinds into diagnostics.
// What the API says and how it says it is WIRE.md.
//
// Where to look: config.go what a Client is made of; client.go the verbs;
// add.go how an add whose response was lost is resolved; snapshot.go the shared
// list; session.go signing in; send.go one request with its retries; response.go
// what a response must look like; errors.go what callers are told.
package client
