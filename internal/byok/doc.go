// Package byok is the ground floor: the vocabulary and the wire contract that
// the Terraform provider and the reference server share. It holds the
// catalogue of provider IDs, the request and response types with their JSON
// tags, the masking rule, the name rules and the cap.
//
// It does no I/O and imports only the standard library. The client and the
// server both build on it; it knows neither.
package byok
