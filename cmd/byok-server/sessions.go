package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

func (e environment) sessionCommand() *cobra.Command {
	var target *string

	list := &cobra.Command{Use: "list", Short: "List the sessions that have not expired, the most recently extended first", Args: noArguments}
	format := addOutputFlag(list)
	of := list.Flags().String("user", "", "only the sessions of the user of this `EMAIL`")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		return withAccess(cmd.Context(), *target, func(a *access.Access) error { return e.listSessions(cmd.Context(), a, *of, *format) })
	}

	revoke := &cobra.Command{
		Use: "revoke [ID...]", Short: "End sessions, at once", Args: cobra.ArbitraryArgs,
		Long: "Ends the sessions of the given IDs, which session list shows, or every session of a user. The user can sign in again: user disable prevents that.",
	}
	allOf := revoke.Flags().String("user", "", "end every session of the user of this `EMAIL`")
	revoke.RunE = func(cmd *cobra.Command, ids []string) error {
		if (len(ids) == 0) == (*allOf == "") {
			return misused("expected either IDs of sessions or --user EMAIL")
		}
		return withAccess(cmd.Context(), *target, func(a *access.Access) error { return e.revokeSessions(cmd.Context(), a, *allOf, ids) })
	}

	cmd := group(&cobra.Command{
		Use:   "session",
		Short: "List and end sessions",
		Long:  "Lists and ends sessions, whether the server runs or not. A session is shown by its ID, never by its token.",
		Example: `  byok-server session list --user alice@example.com
  byok-server session revoke --user alice@example.com`,
	}, list, revoke)
	target = addDatabaseFlag(cmd)
	return cmd
}

// sessionRow is a session in JSON output.
type sessionRow struct {
	ID        string `json:"id"`
	User      string `json:"user"`
	CreatedAt string `json:"createdAt"`
	// UpdatedAt is when a use last extended the session, at most once a day.
	UpdatedAt string  `json:"updatedAt"`
	ExpiresAt string  `json:"expiresAt"`
	IPAddress *string `json:"ipAddress"`
	UserAgent *string `json:"userAgent"`
}

func (e environment) listSessions(ctx context.Context, a *access.Access, email, format string) error {
	out, err := newPrinter(e.stdout, format, "ID", "USER", "CREATED", "EXTENDED", "EXPIRES", "ADDRESS", "CLIENT")
	if err != nil {
		return err
	}
	userID := ""
	if email != "" {
		user, err := findUser(ctx, a, email)
		if err != nil {
			return err
		}
		userID = user.ID
	}
	sessions, err := a.ListSessions(ctx, userID)
	if err != nil {
		return err
	}
	for _, in := range sessions {
		s := in.Session
		row := sessionRow{s.ID, in.User.Email, formatTime(s.CreatedAt.Time), formatTime(s.UpdatedAt.Time), formatTime(s.ExpiresAt.Time), s.IPAddress, s.UserAgent}
		if err := out.row(row, row.ID, row.User, row.CreatedAt, row.UpdatedAt, row.ExpiresAt, text(s.IPAddress), text(s.UserAgent)); err != nil {
			return err
		}
	}
	return out.flush()
}

func text(optional *string) string {
	if optional == nil {
		return ""
	}
	return *optional
}

func (e environment) revokeSessions(ctx context.Context, a *access.Access, email string, ids []string) error {
	if email != "" {
		user, err := findUser(ctx, a, email)
		if err != nil {
			return err
		}
		ended, err := a.EndSessions(ctx, user.ID)
		if err != nil {
			return err
		}
		return e.say("ended %s of %s", plural(ended, "session"), user.Email)
	}
	for i, id := range ids {
		err := a.RevokeSession(ctx, id)
		if errors.Is(err, access.ErrNotFound) {
			err = fmt.Errorf("there is no session %s; byok-server session list shows all", id)
		}
		if err != nil && i > 0 {
			err = fmt.Errorf("ended %s, then: %w", plural(i, "session"), err)
		}
		if err != nil {
			return err
		}
	}
	return e.say("ended %s", plural(len(ids), "session"))
}
