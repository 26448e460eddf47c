//go:build unix

// Package cost says what a process that has ended has cost. The bench and its
// meter share it.
package cost

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// Cost is what a process and the descendants that it waited for used.
type Cost struct {
	// CPU is user and system time.
	CPU time.Duration `json:"cpu"`
	// Memory is the peak resident set of the largest of the processes, in
	// bytes.
	Memory int64 `json:"memory"`
}

// Of returns the cost of a process that has ended.
func Of(state *os.ProcessState) Cost {
	c := Cost{CPU: state.UserTime() + state.SystemTime()}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		c.Memory = int64(usage.Maxrss) //nolint:unconvert // an int32 elsewhere
		if runtime.GOOS != "darwin" {
			c.Memory <<= 10 // kilobytes, but for darwin
		}
	}
	return c
}
