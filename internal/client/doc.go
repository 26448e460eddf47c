// Package client calls the BYOK API over HTTP: requests, authentication,
// retries, typed errors, and the snapshot that all reads of one Terraform
// operation (plan, apply) share.
//
// It knows nothing of Terraform's types and decides nothing about plans; the
// provider builds one Client per operation and turns *Error kinds into
// diagnostics. WIRE.md describes the API.
//
// Where to look: config.go is the configuration of a Client; client.go has its
// operations on keys; add.go resolves an add whose response was lost; capacity.go
// ends adds that wait for free capacity in vain; snapshot.go has the shared
// list; session.go signs in; send.go sends one request with its retries;
// response.go checks responses; scopekind.go has what differs between
// workspaces and organizations; errors.go has the errors that callers get.
package client
