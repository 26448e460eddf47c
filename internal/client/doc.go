// Package client speaks the workspace BYOK API over HTTP: requests,
// authentication, retries, typed errors, and the snapshot that all reads of
// one Terraform walk share.
//
// It knows nothing of Terraform's types and decides nothing about plans; the
// provider builds one Client per walk and turns *Error kinds into diagnostics.
// What the API says and how it says it is WIRE.md.
package client
