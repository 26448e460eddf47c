// Command byok-server runs the reference server of the workspace BYOK API:
// serve, and what an operator needs beside it. The server itself is
// internal/server. Each file here is one command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// version is set by the linker.
var version = "dev"

const environmentHelp = `Environment:
  ENCRYPTION_KEY        64 hex digits; encrypts the stored keys
  BETTER_AUTH_SECRET    signs session cookies
  INTERNAL_API_SECRET   opens POST /reference/resolve
  DECRYPTION_KEYS       earlier encryption keys, separated by commas, while the key is being changed
  Where one of the first three is absent it is made once and kept beside the SQLite file, mode 0600.`

func main() {
	signals := []os.Signal{syscall.SIGTERM}
	// A shell without job control starts what it puts in the background with SIGINT
	// ignored, so that Ctrl-C ends the foreground only. NotifyContext would have the
	// first one count all the same, and stop would have the second one ignored.
	if !signal.Ignored(os.Interrupt) {
		signals = append(signals, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// The second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], environment{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(code)
}

// environment is what a command may touch.
type environment struct {
	getenv         func(string) string
	stdin          *os.File
	stdout, stderr io.Writer
}

// run runs one command and returns the exit code: 0, 1 for a failure, 2 for a
// command line that is not understood.
func run(ctx context.Context, args []string, env environment) int {
	root := newRoot(env)
	root.SetArgs(doubleDashes(args))
	cmd, err := root.ExecuteContextC(ctx)
	var misused usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &misused):
		_, _ = fmt.Fprintf(env.stderr, "%s: %v\nRun %s --help for its flags.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return 2
	}
	_, _ = fmt.Fprintf(env.stderr, "%s: %v\n", cmd.CommandPath(), database.Explain(err))
	return 1
}

// oldFlag is a flag with one dash, as byok-server took them at first.
var oldFlag = regexp.MustCompile(`^-[a-z][a-z-]+(=|$)`)

// doubleDashes gives flags with one dash the second one.
func doubleDashes(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if arg == "--" {
			copy(out[i:], args[i:])
			break
		}
		if out[i] = arg; oldFlag.MatchString(arg) {
			out[i] = "-" + arg
		}
	}
	return out
}

// usageError is a command line that is not understood.
type usageError struct{ error }

func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "byok-server",
		Short: "A reference server of the workspace BYOK API",
		Long:  "byok-server is a reference server of the workspace BYOK API.\n\n" + environmentHelp,
		Example: `  # Try it: users and workspaces from a file, keys in a SQLite file
  byok-server serve --bootstrap bootstrap.json --env-file server.env

  # Remove a user's access, at once
  byok-server user disable mallory@example.com

  # Copy the database while the server runs
  byok-server backup /backups/byok-server.db`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			hint := ""
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				hint = "; did you mean " + strings.Join(similar, " or ") + "?"
			}
			return misused("there is no command %q%s", args[0], hint)
		}
		cmd.SetOut(env.stderr)
		_ = cmd.Help()
		return misused("expected a command")
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("byok-server {{.Version}}\n")
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		env.serveCommand(), env.migrateCommand(), env.importCommand(),
		env.userCommand(), env.sessionCommand(), env.keysCommand(),
		env.backupCommand(), env.manCommand(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: noArguments,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(env.stdout, "byok-server", version)
				return err
			},
		},
	)
	return root
}

// arguments expects as many arguments as there are names.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(names) == 0:
			return misused("no arguments are expected, got %q", args)
		}
		return misused("expected %s, got %q", strings.Join(names, " "), args)
	}
}

func noArguments(cmd *cobra.Command, args []string) error { return arguments()(cmd, args) }

// group makes a command of which only its subcommands do something.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	var names []string
	for _, sub := range subcommands {
		names = append(names, sub.Name())
	}
	expected := strings.Join(names, "|")
	cmd.Use += " " + expected
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return misused("expected %s", expected)
		}
		return misused("expected %s, got %q", expected, args[0])
	}
	cmd.AddCommand(subcommands...)
	return cmd
}
