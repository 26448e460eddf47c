// Package secrets shows what becomes of users' secrets, with the real terraform
// binary, the provider just built and a reference server: that none of them is
// anywhere it need not be (hunt_test.go, leaks_test.go), that write-only values
// behave from plan to apply, and that the guides about secrets and adopting
// keys are true.
//
// It holds tests only. How a single plan is decided is tested in package
// provider, without processes.
package secrets
