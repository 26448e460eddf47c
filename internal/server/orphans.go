package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// temporaryAgent is the user agent of a temporary session, by which a later start
// knows the process that it should have ended with.
func temporaryAgent(process int) string {
	host, _ := os.Hostname() // without a name all hosts are one
	return fmt.Sprintf("byok-server on %s, process %d", host, process)
}

// endOrphans ends the temporary sessions of processes of this host that are gone: one
// that was killed has not ended its own.
func (s *Server) endOrphans(ctx context.Context) error {
	prefix := strings.TrimSuffix(temporaryAgent(0), "0")
	agents, err := s.access.AgentsOfSessions(ctx, prefix)
	if err != nil {
		return err
	}
	for token, agent := range agents {
		process, err := strconv.Atoi(strings.TrimPrefix(agent, prefix))
		if err != nil || process != os.Getpid() && isRunning(process) {
			continue
		}
		if err := s.access.EndSession(ctx, token); err != nil {
			return err
		}
	}
	return nil
}

// isRunning reports whether there is a process, as far as this system tells.
func isRunning(process int) bool {
	found, err := os.FindProcess(process)
	if err != nil {
		return false
	}
	err = found.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}
