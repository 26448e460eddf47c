//go:build unix && !linux

package pgtest

import "syscall"

// sysProcAttr runs a process as another user.
func sysProcAttr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as}
}
