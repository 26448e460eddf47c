//go:build unix

package byokserver

import "syscall"

// Pause stops the process where it is, with SIGSTOP: its connections stay open
// and get no response. Resume lets it go on.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
