package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// The lengths of a password that sign-up accepts, in UTF-16 units.
const (
	minPassword = 8
	maxPassword = 128
)

func (e environment) userCommand() *cobra.Command {
	var target *string
	// onUser makes the function of a command about one user.
	onUser := func(do func(context.Context, *access.Access, access.User) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			return withAccess(cmd.Context(), *target, func(a *access.Access) error {
				user, err := findUser(cmd.Context(), a, args[0])
				if err != nil {
					return err
				}
				return do(cmd.Context(), a, user)
			})
		}
	}

	list := &cobra.Command{Use: "list", Short: "List all users", Args: noArguments}
	format := addOutputFlag(list)
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		return withAccess(cmd.Context(), *target, func(a *access.Access) error { return e.listUsers(cmd.Context(), a, *format) })
	}

	add := &cobra.Command{Use: "add EMAIL", Short: "Add a user who can sign in", Args: arguments("EMAIL")}
	name := add.Flags().String("name", "", "the user's `NAME`; default: the address up to the @")
	addPassword := e.addPasswordFlag(add)
	add.RunE = func(cmd *cobra.Command, args []string) error {
		if !access.IsEmail(args[0]) {
			return misused("%q is no e-mail address that sign-in accepts", args[0])
		}
		password, err := addPassword()
		if err != nil {
			return err
		}
		if *name == "" {
			*name, _, _ = strings.Cut(args[0], "@")
		}
		return withAccess(cmd.Context(), *target, func(a *access.Access) error {
			user, err := a.AddUser(cmd.Context(), access.NewUser{Email: args[0], Name: *name, Password: password})
			if errors.Is(err, access.ErrEmailTaken) {
				return fmt.Errorf("there is a user %s already; byok-server user password %s sets another password", args[0], args[0])
			}
			if err != nil {
				return err
			}
			return e.say("added %s (%s)", user.Email, user.ID)
		})
	}

	disable := &cobra.Command{
		Use: "disable EMAIL", Short: "Refuse a user's sign-in and end all sessions of the user, at once", Args: arguments("EMAIL"),
		RunE: onUser(func(ctx context.Context, a *access.Access, user access.User) error {
			ended, err := a.Disable(ctx, user.ID)
			if err != nil {
				return err
			}
			return e.say("disabled %s and ended %s", user.Email, plural(ended, "session"))
		}),
	}
	enable := &cobra.Command{
		Use: "enable EMAIL", Short: "Let a disabled user sign in again", Args: arguments("EMAIL"),
		RunE: onUser(func(ctx context.Context, a *access.Access, user access.User) error {
			if err := a.Enable(ctx, user.ID); err != nil {
				return err
			}
			return e.say("enabled %s", user.Email)
		}),
	}

	setPassword := &cobra.Command{Use: "password EMAIL", Short: "Set a user's password and end all sessions of the user", Args: arguments("EMAIL")}
	newPassword := e.addPasswordFlag(setPassword)
	setPassword.RunE = onUser(func(ctx context.Context, a *access.Access, user access.User) error {
		password, err := newPassword()
		if err != nil {
			return err
		}
		ended, err := a.SetPassword(ctx, user.ID, a.HashPassword(password))
		if err != nil {
			return err
		}
		return e.say("set the password of %s and ended %s", user.Email, plural(ended, "session"))
	})

	cmd := group(&cobra.Command{
		Use:   "user",
		Short: "List, add and disable users, and set their passwords",
		Long: "Lists, adds and disables users, and sets their passwords, whether the server runs or not. " +
			"What the --bootstrap file of the server says about a user is applied again at its next start: change the password there too.",
		Example: `  byok-server user list
  byok-server user add alice@example.com --name Alice
  pass show byok/alice | byok-server user password alice@example.com --password-file -
  byok-server user disable mallory@example.com`,
	}, list, add, disable, enable, setPassword)
	target = addDatabaseFlag(cmd)
	return cmd
}

func (e environment) say(format string, args ...any) error {
	_, err := fmt.Fprintf(e.stdout, format+"\n", args...)
	return err
}

func findUser(ctx context.Context, a *access.Access, email string) (access.User, error) {
	user, err := a.FindUser(ctx, email)
	if errors.Is(err, access.ErrNotFound) {
		err = fmt.Errorf("there is no user %s; byok-server user list shows all", email)
	}
	return user, err
}

// userRow is a user in JSON output.
type userRow struct {
	Email     string `json:"email"`
	Name      string `json:"name"`
	ID        string `json:"id"`
	Disabled  bool   `json:"disabled"`
	CreatedAt string `json:"createdAt"`
}

func (e environment) listUsers(ctx context.Context, a *access.Access, format string) error {
	out, err := newPrinter(e.stdout, format, "EMAIL", "NAME", "ID", "STATE", "CREATED")
	if err != nil {
		return err
	}
	users, err := a.ListUsers(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		state := "active"
		if u.Banned {
			state = "disabled"
		}
		created := formatTime(u.CreatedAt.Time)
		if err := out.row(userRow{u.Email, u.Name, u.ID, u.Banned, created}, u.Email, u.Name, u.ID, state, created); err != nil {
			return err
		}
	}
	return out.flush()
}

// addPasswordFlag adds --password-file and returns what reads the password, from
// there or from the terminal. A password is no argument: other users of the
// machine can see those.
func (e environment) addPasswordFlag(cmd *cobra.Command) func() (string, error) {
	file := cmd.Flags().String("password-file", "", "`FILE` with the password in its first line; - is standard input. Without it the terminal asks")
	return func() (string, error) {
		password, err := e.readPassword(*file)
		if err != nil {
			return "", err
		}
		if n := len(utf16.Encode([]rune(password))); n < minPassword || n > maxPassword {
			return "", fmt.Errorf("the password must have %d to %d characters, got %d", minPassword, maxPassword, n)
		}
		return password, nil
	}
}

func (e environment) readPassword(file string) (string, error) {
	if file == "" {
		return e.askPassword()
	}
	in := e.stdin
	if file != "-" {
		var err error
		if in, err = os.Open(file); err != nil { //nolint:gosec // the operator names the file
			return "", fmt.Errorf("--password-file: %w", err)
		}
		defer in.Close()
	}
	text, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	return string(bytes.TrimSuffix(line, []byte{'\r'})), nil
}

func (e environment) askPassword() (string, error) {
	fd := int(e.stdin.Fd()) //nolint:gosec // a file descriptor fits
	if !term.IsTerminal(fd) {
		return "", misused("there is no terminal to ask for the password on: give --password-file FILE, or --password-file - for standard input")
	}
	ask := func(prompt string) (string, error) {
		_, _ = fmt.Fprint(e.stderr, prompt)
		text, err := term.ReadPassword(fd)
		_, _ = fmt.Fprintln(e.stderr)
		return string(text), err
	}
	password, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	again, err := ask("Again: ")
	if err == nil && again != password {
		err = errors.New("the passwords differ")
	}
	return password, err
}
