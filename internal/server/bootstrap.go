package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// Bootstrap is the users, organizations and workspaces that a server starts
// with. Applying one twice changes nothing.
type Bootstrap struct {
	Users         []BootstrapUser         `json:"users"`
	Organizations []BootstrapOrganization `json:"organizations"`
	Workspaces    []BootstrapWorkspace    `json:"workspaces"`
}

// BootstrapUser is a user that signs in with email and password.
type BootstrapUser struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Name     string `json:"name"`
	// Superuser admits the user to the mothership's keys.
	Superuser bool `json:"superuser"`
}

// BootstrapOrganization has members by email, as owner, admin or member.
type BootstrapOrganization struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Members []BootstrapMember `json:"members"`
}

// BootstrapMember is one member of an organization.
type BootstrapMember struct {
	Email string `json:"email"`
	Role  string `json:"role"`
}

// BootstrapWorkspace has an owner and members by email, with read, write or
// admin permission.
type BootstrapWorkspace struct {
	ID             string                `json:"id"`
	Name           string                `json:"name"`
	OrganizationID string                `json:"organizationId"`
	Owner          string                `json:"owner"`
	Members        []BootstrapPermission `json:"members"`
}

// BootstrapPermission is one member of a workspace.
type BootstrapPermission struct {
	Email      string `json:"email"`
	Permission string `json:"permission"`
}

// ReadBootstrap parses a bootstrap document strictly: an unknown or repeated
// field, a bad role or a reference to nobody is an error that names its path.
func ReadBootstrap(in io.Reader) (*Bootstrap, error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if err := checkRepeated(text); err != nil {
		return nil, err
	}
	var doc Bootstrap
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty; write at least {}")
		}
		return nil, describeJSON(err, text, decoder.InputOffset())
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document; one JSON object is expected")
	}
	return &doc, doc.check()
}

// describeJSON says where and what is wrong in words of JSON; offset is how far
// the decoder has read.
func describeJSON(err error, text []byte, offset int64) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w", lineOf(text, syntax.Offset), err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: the document ends too early", lineOf(text, int64(len(text))))
	case errors.As(err, &kind):
		expected := map[reflect.Kind]string{reflect.Struct: "an object", reflect.Slice: "a list"}[kind.Type.Kind()]
		return fmt.Errorf("line %d: %s: a JSON %s stands where %s is expected", lineOf(text, kind.Offset),
			cmp.Or(kind.Field, "the document"), kind.Value, cmp.Or(expected, "a "+kind.Type.String()))
	}
	return fmt.Errorf("line %d: %s", lineOf(text, offset), strings.TrimPrefix(err.Error(), "json: "))
}

func lineOf(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte{'\n'})
}

// checkRepeated finds a field that an object has twice, which encoding/json
// lets pass.
func checkRepeated(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var walk func(path string) error
	walk = func(path string) error {
		token, err := decoder.Token()
		if err != nil {
			return nil //nolint:nilerr // the strict decoder says it better
		}
		switch token {
		case json.Delim('{'):
			seen := map[string]bool{}
			for decoder.More() {
				name, err := decoder.Token()
				if err != nil {
					return nil //nolint:nilerr // as above
				}
				field := strings.TrimPrefix(path+"."+fmt.Sprint(name), ".")
				if seen[fmt.Sprint(name)] {
					return fmt.Errorf("%s: the field occurs twice", field)
				}
				seen[fmt.Sprint(name)] = true
				if err := walk(field); err != nil {
					return err
				}
			}
			_, _ = decoder.Token()
		case json.Delim('['):
			for i := 0; decoder.More(); i++ {
				if err := walk(path + "[" + strconv.Itoa(i) + "]"); err != nil {
					return err
				}
			}
			_, _ = decoder.Token()
		}
		return nil
	}
	return walk("")
}

// check finds what a decoder cannot.
func (doc *Bootstrap) check() error {
	emails := map[string]bool{}
	for i, u := range doc.Users {
		at := fmt.Sprintf("users[%d]", i)
		email := strings.ToLower(u.Email)
		switch {
		case !strings.Contains(email, "@"):
			return fmt.Errorf("%s.email: %q is no e-mail address", at, u.Email)
		case emails[email]:
			return fmt.Errorf("%s.email: %s is listed twice", at, u.Email)
		case len(u.Password) < 8:
			return fmt.Errorf("%s.password: needs at least 8 characters", at)
		}
		emails[email] = true
	}
	organizations := map[string]bool{}
	for i, o := range doc.Organizations {
		at := fmt.Sprintf("organizations[%d]", i)
		switch {
		case o.ID == "":
			return fmt.Errorf("%s.id: is missing", at)
		case organizations[o.ID]:
			return fmt.Errorf("%s.id: %s is listed twice", at, o.ID)
		}
		organizations[o.ID] = true
		for j, m := range o.Members {
			if !slices.Contains([]string{"owner", "admin", "member"}, m.Role) {
				return fmt.Errorf("%s.members[%d].role: %q must be owner, admin or member", at, j, m.Role)
			}
			if m.Email == "" {
				return fmt.Errorf("%s.members[%d].email: is missing", at, j)
			}
		}
	}
	workspaces := map[string]bool{}
	for i, w := range doc.Workspaces {
		at := fmt.Sprintf("workspaces[%d]", i)
		switch {
		case w.ID == "" || strings.Contains(w.ID, "/"):
			return fmt.Errorf("%s.id: is missing or contains a slash; write a UUID", at)
		case workspaces[w.ID]:
			return fmt.Errorf("%s.id: %s is listed twice", at, w.ID)
		case w.Owner == "":
			return fmt.Errorf("%s.owner: is missing; write the owner's e-mail address", at)
		}
		workspaces[w.ID] = true
		for j, m := range w.Members {
			if !slices.Contains([]string{"read", "write", "admin"}, m.Permission) {
				return fmt.Errorf("%s.members[%d].permission: %q must be read, write or admin", at, j, m.Permission)
			}
			if m.Email == "" {
				return fmt.Errorf("%s.members[%d].email: is missing", at, j)
			}
		}
	}
	return nil
}

// Apply brings users, organizations and workspaces to what the document says;
// what it does not mention stays. Applying it again changes nothing.
func (s *Server) Apply(ctx context.Context, doc *Bootstrap) error {
	if err := doc.check(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	for i, u := range doc.Users {
		if err := s.applyUser(ctx, u); err != nil {
			return fmt.Errorf("bootstrap: users[%d]: %w", i, err)
		}
	}
	for i, o := range doc.Organizations {
		at := fmt.Sprintf("organizations[%d]", i)
		if err := s.access.PutOrganization(ctx, o.ID, o.Name); err != nil {
			return fmt.Errorf("bootstrap: %s: %w", at, err)
		}
		for j, m := range o.Members {
			user, err := s.lookUp(ctx, m.Email)
			if err != nil {
				return fmt.Errorf("bootstrap: %s.members[%d].email: %w", at, j, err)
			}
			if err := s.access.PutMember(ctx, o.ID, user.ID, access.Role(m.Role)); err != nil {
				return fmt.Errorf("bootstrap: %s.members[%d]: %w", at, j, err)
			}
		}
	}
	for i, w := range doc.Workspaces {
		if err := s.applyWorkspace(ctx, fmt.Sprintf("workspaces[%d]", i), w); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	return nil
}

func (s *Server) applyUser(ctx context.Context, u BootstrapUser) error {
	user, err := s.access.FindUser(ctx, u.Email)
	if errors.Is(err, access.ErrNotFound) {
		user, err = s.access.AddUser(ctx, access.NewUser{Email: u.Email, Password: u.Password, Name: u.Name})
		if err == nil {
			return s.access.SetSuperuser(ctx, user.ID, u.Superuser)
		}
		if !errors.Is(err, access.ErrEmailTaken) {
			return err
		}
		// Another instance was faster.
		user, err = s.access.FindUser(ctx, u.Email)
	}
	if err != nil {
		return err
	}
	if err := s.access.SetSuperuser(ctx, user.ID, u.Superuser); err != nil {
		return err
	}
	return s.access.UpdateUser(ctx, user, u.Name, u.Password)
}

func (s *Server) applyWorkspace(ctx context.Context, at string, w BootstrapWorkspace) error {
	owner, err := s.lookUp(ctx, w.Owner)
	if err != nil {
		return fmt.Errorf("%s.owner: %w", at, err)
	}
	if w.OrganizationID != "" {
		if exists, err := s.access.HasOrganization(ctx, w.OrganizationID); err != nil || !exists {
			return errors.Join(fmt.Errorf("%s.organizationId: there is no organization %s; add it to organizations", at, w.OrganizationID), err)
		}
	}
	if err := s.access.PutWorkspace(ctx, access.Workspace{ID: w.ID, Name: w.Name, OwnerID: owner.ID, OrganizationID: w.OrganizationID}); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for j, m := range w.Members {
		user, err := s.lookUp(ctx, m.Email)
		if err != nil {
			return fmt.Errorf("%s.members[%d].email: %w", at, j, err)
		}
		if err := s.access.PutPermission(ctx, w.ID, user.ID, access.Permission(m.Permission)); err != nil {
			return fmt.Errorf("%s.members[%d]: %w", at, j, err)
		}
	}
	return nil
}

func (s *Server) lookUp(ctx context.Context, email string) (access.User, error) {
	user, err := s.access.FindUser(ctx, email)
	if errors.Is(err, access.ErrNotFound) {
		return user, fmt.Errorf("there is no user %s; add it to users", email)
	}
	return user, err
}
