// Command byok-server runs the reference server of the workspace BYOK API:
// serve, and what an operator needs beside it. The server itself is
// internal/server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is set by the linker.
var version = "dev"

const usage = `byok-server is a reference server of the workspace BYOK API.

Usage:
  byok-server serve [flags]                     run the server
  byok-server migrate status|up [flags]         show or bring up to date the database schema
  byok-server import-legacy FILE [flags]        take over keys of the single-key time
  byok-server version                           print the version

Environment:
  ENCRYPTION_KEY        64 hex digits; seals the stored keys
  BETTER_AUTH_SECRET    signs session cookies
  INTERNAL_API_SECRET   opens POST /reference/resolve
  Where one is absent it is made once and kept beside the SQLite file, mode 0600.

Run byok-server COMMAND --help for its flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage reports a command line that was not understood; what is wrong has
// been said.
var errUsage = errors.New("usage")

// run runs one command and returns the exit code: 0, 1 for a failure, 2 for a
// command line that is not understood.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	env := environment{getenv: getenv, stdout: stdout, stderr: stderr}
	var err error
	switch command {
	case "serve":
		err = env.serve(ctx, args)
	case "migrate":
		err = env.migrate(ctx, args)
	case "import-legacy":
		err = env.importLegacy(ctx, args)
	case "version", "--version", "-version":
		_, err = fmt.Fprintln(stdout, "byok-server", version)
	case "help", "--help", "-help", "-h":
		_, err = io.WriteString(stdout, usage)
	case "":
		_, _ = io.WriteString(stderr, usage)
		return 2
	default:
		_, _ = fmt.Fprintf(stderr, "byok-server: there is no command %q\n\n%s", command, usage)
		return 2
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	_, _ = fmt.Fprintf(stderr, "byok-server %s: %v\n", command, err)
	return 1
}

// environment is what a command may touch.
type environment struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

// parse reads flags and arguments in any order; want names the arguments.
func (e environment) parse(flags *flag.FlagSet, args []string, want ...string) ([]string, error) {
	var rest []string
	flags.SetOutput(io.Discard)
	for {
		err := flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			e.help(e.stdout, flags, want)
			return nil, err
		}
		if err != nil {
			return nil, e.misused(flags, err.Error())
		}
		if flags.NArg() == 0 {
			break
		}
		rest, args = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
	if len(rest) != len(want) {
		expected := "no arguments are expected"
		if len(want) > 0 {
			expected = "expected " + strings.Join(want, " ")
		}
		return nil, e.misused(flags, fmt.Sprintf("%s, got %q", expected, rest))
	}
	return rest, nil
}

func (e environment) misused(flags *flag.FlagSet, problem string) error {
	_, _ = fmt.Fprintf(e.stderr, "byok-server %s: %s\nRun byok-server %s --help for its flags.\n", flags.Name(), problem, flags.Name())
	return errUsage
}

func (e environment) help(to io.Writer, flags *flag.FlagSet, want []string) {
	_, _ = fmt.Fprintf(to, "Usage: byok-server %s\n\nFlags:\n", strings.Join(append(append([]string{flags.Name()}, want...), "[flags]"), " "))
	flags.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (default " + f.DefValue + ")"
		}
		_, _ = fmt.Fprintf(to, "  --%s\n        %s\n", strings.TrimSpace(f.Name+" "+kind), text)
	})
}

// databaseFlag is the flag that all commands share.
func databaseFlag(flags *flag.FlagSet) *string {
	return flags.String("database", "sqlite:byok-server.db", "`TARGET`: sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/NAME")
}
