// Package faults shows that no key is duplicated, lost or wrongly deleted when
// networks fail, servers crash or misbehave, disks fill up, users interrupt,
// and several owners share a pool. It holds tests only; what they promise is
// in the guide on guarantees.
//
// The tests drive the provider in two ways. cli_test.go runs the real
// terraform. core_test.go makes the same calls as terraform in this process,
// so that hundreds of runs are affordable. Both are a driver (driver_test.go).
//
// Where to look: soak_test.go random configurations through faultproxy;
// crash_test.go a server that is killed; storage_test.go full disks and
// read-only databases; owners_test.go several owners of one pool;
// hostile_test.go servers that respond with anything; input_test.go bad input;
// interrupt_test.go an interrupted apply.
package faults
