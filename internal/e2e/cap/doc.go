// Package cap proves with the real terraform that a plan fails when, and only
// when, it would leave a pool with more keys than its cap, and that a plan that
// passed applies. It holds tests only; internal/ledger decides, and
// internal/provider reports.
//
// plan_test.go has the cases in which one look is enough, race_test.go those
// whose outcome depends on the order in which Terraform visits resources: they
// run -runs times, and a line with the figures of each is printed.
// apply_test.go is about the cap at apply, report_test.go about what the user
// reads, costs_test.go about requests. world_test.go is what all of them stand
// on.
package cap
