package pgtest

import "syscall"

// sysProcAttr runs a process as another user, and ends it when the test binary
// is killed.
func sysProcAttr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGQUIT}
}
