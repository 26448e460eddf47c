// Package pool proves byok_pool with the real terraform: that the plan shows
// what the apply does, key by key, and that a pool serves while it changes. It
// holds tests only.
//
// create_test.go and change_test.go are about plans and applies,
// swap_test.go about full pools, cap_test.go about the cap at plan,
// exclusive_test.go about keys of others, import_test.go about adopting and
// moving, drift_test.go about other users, fault_test.go about failures,
// costs_test.go about requests. world_test.go is what all of them use.
package pool
