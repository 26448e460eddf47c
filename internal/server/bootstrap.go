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
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
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
	// Disabled, if true, refuses the user and ends the user's sessions; the
	// password can be left out. False lets the user in again; where it is absent,
	// a user who was disabled otherwise stays so.
	Disabled *bool `json:"disabled"`
	// Superuser admits the user to the mothership's keys.
	Superuser bool `json:"superuser"`
}

// IsDisabled reports whether the document says that the user is disabled.
func (u BootstrapUser) IsDisabled() bool { return u.Disabled != nil && *u.Disabled }

// none, as a role or a permission, removes a member.
const none = "none"

// BootstrapOrganization has members by email, as owner, admin or member, or those
// to be removed.
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
// admin permission, or those to be removed.
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
	var doc Bootstrap
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty; write at least {}")
		}
		return nil, describeJSON(err, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document; one JSON object is expected")
	}
	if err := checkRepeated(text); err != nil {
		return nil, err
	}
	return &doc, doc.check()
}

// describeJSON says what is wrong in words of JSON, and where, if that is known.
func describeJSON(err error, text []byte) error {
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
	// encoding/json does not say where an unknown field stands.
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

func lineOf(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte{'\n'})
}

// checkRepeated finds a field that an object has twice, which encoding/json
// lets pass. The text is valid JSON.
func checkRepeated(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var walk func(path string) error
	walk = func(path string) error {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			seen := map[string]bool{}
			for decoder.More() {
				name, err := decoder.Token()
				if err != nil {
					return err
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
		case !access.IsEmail(email):
			return fmt.Errorf("%s.email: %q is no e-mail address that sign-in accepts", at, u.Email)
		case emails[email]:
			return fmt.Errorf("%s.email: %s is listed twice", at, u.Email)
		case len(u.Password) < 8 && (u.Password != "" || !u.IsDisabled()):
			return fmt.Errorf("%s.password: needs at least 8 characters", at)
		}
		if err := checkText(at+".name", u.Name); err != nil {
			return err
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
		if err := cmp.Or(checkText(at+".id", o.ID), checkText(at+".name", o.Name)); err != nil {
			return err
		}
		organizations[o.ID] = true
		members := map[string]string{}
		for j, m := range o.Members {
			at := fmt.Sprintf("%s.members[%d]", at, j)
			if !slices.Contains([]string{"owner", "admin", "member", none}, m.Role) {
				return fmt.Errorf("%s.role: %q must be owner, admin, member or none", at, m.Role)
			}
			if err := checkMember(members, at, m.Email, m.Role); err != nil {
				return err
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
		if err := cmp.Or(checkText(at+".id", w.ID), checkText(at+".name", w.Name)); err != nil {
			return err
		}
		workspaces[w.ID] = true
		members := map[string]string{}
		for j, m := range w.Members {
			at := fmt.Sprintf("%s.members[%d]", at, j)
			if !slices.Contains([]string{"read", "write", "admin", none}, m.Permission) {
				return fmt.Errorf("%s.permission: %q must be read, write, admin or none", at, m.Permission)
			}
			if err := checkMember(members, at, m.Email, m.Permission); err != nil {
				return err
			}
			if m.Permission == none && strings.EqualFold(m.Email, w.Owner) {
				return fmt.Errorf("%s.permission: %s owns the workspace and cannot be removed; give the workspace another owner first", at, m.Email)
			}
		}
	}
	return nil
}

// checkMember refuses a member without an address, and one that is listed with two
// values, of which one may be a removal. given holds the values so far.
func checkMember(given map[string]string, at, email, value string) error {
	if email == "" {
		return fmt.Errorf("%s.email: is missing", at)
	}
	key := strings.ToLower(email)
	if before, again := given[key]; again && before != value {
		return fmt.Errorf("%s.email: %s is listed twice, as %s and as %s", at, email, before, value)
	}
	given[key] = value
	return nil
}

func checkText(at, text string) error {
	if !keystore.Storable(text) {
		return fmt.Errorf("%s: contains U+0000, which a database cannot store", at)
	}
	return nil
}

// applyAttempts is how often a document is applied again when another server
// has changed a password meanwhile.
const applyAttempts = 10

// Apply brings users, organizations and workspaces to what the document says,
// as a whole or not at all; what it does not mention stays. Applying it again
// changes nothing. A password that changes ends its user's sessions.
func (s *Server) Apply(ctx context.Context, doc *Bootstrap) error {
	if err := doc.check(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	var err error
	for range applyAttempts {
		// Hashing takes a second for a dozen users: no transaction is open meanwhile.
		var passwords []password
		if passwords, err = s.hashPasswords(ctx, doc.Users); err != nil {
			break
		}
		err = s.access.Change(ctx, func(in *access.Access) error { return doc.apply(ctx, in, passwords) })
		if !errors.Is(err, errPasswordChanged) {
			break
		}
	}
	if err == nil {
		err = s.warnOfNobody(ctx, doc)
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// password is what becomes of a user's password.
type password struct {
	// stored is what was stored when the password was compared.
	stored access.PasswordHash
	// hash is what to store; empty where the stored one is right.
	hash access.PasswordHash
	// remembered tells that the database says whose password the stored hash is.
	remembered bool
}

var errPasswordChanged = errors.New("another program keeps changing the passwords of these users")

// hashPasswords compares the passwords with the stored ones, as many at a time
// as there are processors. Those that were compared at an earlier start need no
// hashing.
func (s *Server) hashPasswords(ctx context.Context, users []BootstrapUser) ([]password, error) {
	passwords, failed := make([]password, len(users)), make([]error, len(users))
	var wg sync.WaitGroup
	for i, u := range users {
		if u.Password == "" {
			continue
		}
		wg.Go(func() {
			p := &passwords[i]
			stored, err := s.access.StoredPassword(ctx, u.Email)
			if failed[i] = err; err != nil || ctx.Err() != nil {
				return
			}
			p.stored, p.remembered = stored.Hash, s.access.IsRemembered(u.Password, stored)
			if !p.remembered && (p.stored == "" || !s.access.Matches(u.Password, stored)) {
				p.hash = s.access.HashPassword(u.Password)
			}
		})
	}
	wg.Wait()
	return passwords, errors.Join(errors.Join(failed...), ctx.Err())
}

func (doc *Bootstrap) apply(ctx context.Context, in *access.Access, passwords []password) error {
	for i, u := range doc.Users {
		if err := u.apply(ctx, in, passwords[i]); err != nil {
			return fmt.Errorf("users[%d]: %w", i, err)
		}
	}
	for i, o := range doc.Organizations {
		if err := o.apply(ctx, in, fmt.Sprintf("organizations[%d]", i)); err != nil {
			return err
		}
	}
	for i, w := range doc.Workspaces {
		if err := w.apply(ctx, in, fmt.Sprintf("workspaces[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (u BootstrapUser) apply(ctx context.Context, in *access.Access, p password) error {
	user, err := in.FindUser(ctx, u.Email)
	if errors.Is(err, access.ErrNotFound) {
		if p.stored != "" {
			return errPasswordChanged // the user was deleted a moment ago
		}
		if user, err = in.AddUser(ctx, access.NewUser{Email: u.Email, Hash: p.hash, Name: u.Name}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	} else if u.Password != "" {
		stored, err := in.StoredPassword(ctx, u.Email)
		if err != nil {
			return err
		}
		if stored.Hash != p.stored {
			return errPasswordChanged
		}
		if p.hash != "" {
			if _, err := in.SetPassword(ctx, user.ID, p.hash); err != nil {
				return err
			}
		}
	}
	if u.Password != "" && !p.remembered {
		if err := in.Remember(ctx, user.ID, cmp.Or(p.hash, p.stored), u.Password); err != nil {
			return err
		}
	}
	if u.Name != user.Name && (u.Name != "" || !u.IsDisabled()) {
		if err := in.Rename(ctx, user.ID, u.Name); err != nil {
			return err
		}
	}
	if err := in.SetSuperuser(ctx, user.ID, u.Superuser); err != nil {
		return err
	}
	switch {
	case u.Disabled == nil || *u.Disabled == user.Banned:
		return nil
	case *u.Disabled:
		_, err = in.Disable(ctx, user.ID)
		return err
	}
	return in.Enable(ctx, user.ID)
}

// CheckComplete reports a user or an organization that the document refers to and
// does not have: a database that is new has none either.
func (doc *Bootstrap) CheckComplete() error {
	user := func(at, email, as string) error {
		if as == none || slices.ContainsFunc(doc.Users, func(u BootstrapUser) bool { return strings.EqualFold(u.Email, email) }) {
			return nil
		}
		return fmt.Errorf("%s: %w", at, noUser(email))
	}
	var problems []error
	for i, o := range doc.Organizations {
		for j, m := range o.Members {
			problems = append(problems, user(fmt.Sprintf("organizations[%d].members[%d].email", i, j), m.Email, m.Role))
		}
	}
	for i, w := range doc.Workspaces {
		at := fmt.Sprintf("workspaces[%d]", i)
		problems = append(problems, user(at+".owner", w.Owner, ""))
		for j, m := range w.Members {
			problems = append(problems, user(fmt.Sprintf("%s.members[%d].email", at, j), m.Email, m.Permission))
		}
		if w.OrganizationID != "" && !slices.ContainsFunc(doc.Organizations, func(o BootstrapOrganization) bool { return o.ID == w.OrganizationID }) {
			problems = append(problems, noOrganization(at, w.OrganizationID))
		}
	}
	return errors.Join(problems...)
}

// missingUser is the address of a user whom a document refers to and who is not
// there.
type missingUser string

func noUser(email string) error { return missingUser(email) }

func (m missingUser) Error() string { return "there is no user " + string(m) + "; add it to users" }

// Is makes it an access.ErrNotFound.
func (missingUser) Is(target error) bool { return target == access.ErrNotFound }

func noOrganization(at, id string) error {
	return fmt.Errorf("%s.organizationId: there is no organization %s; add it to organizations", at, id)
}

func (o BootstrapOrganization) apply(ctx context.Context, in *access.Access, at string) error {
	if err := in.PutOrganization(ctx, o.ID, o.Name); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for j, m := range o.Members {
		user, found, err := findMember(ctx, in, m.Email, m.Role)
		if err != nil {
			return fmt.Errorf("%s.members[%d].email: %w", at, j, err)
		}
		if !found {
			continue
		}
		if m.Role == none {
			err = in.RemoveMember(ctx, o.ID, user.ID)
		} else {
			err = in.PutMember(ctx, o.ID, user.ID, access.Role(m.Role))
		}
		if errors.Is(err, access.ErrOwner) {
			return fmt.Errorf("%s.members[%d].role: %s owns the organization and cannot be removed; apply another role first", at, j, m.Email)
		}
		if err != nil {
			return fmt.Errorf("%s.members[%d]: %w", at, j, err)
		}
	}
	return nil
}

func (w BootstrapWorkspace) apply(ctx context.Context, in *access.Access, at string) error {
	owner, err := lookUp(ctx, in, w.Owner)
	if err != nil {
		return fmt.Errorf("%s.owner: %w", at, err)
	}
	if w.OrganizationID != "" {
		if exists, err := in.HasOrganization(ctx, w.OrganizationID); err != nil || !exists {
			return errors.Join(noOrganization(at, w.OrganizationID), err)
		}
	}
	if err := in.PutWorkspace(ctx, access.Workspace{ID: w.ID, Name: w.Name, OwnerID: owner.ID, OrganizationID: w.OrganizationID}); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for j, m := range w.Members {
		user, found, err := findMember(ctx, in, m.Email, m.Permission)
		if err != nil {
			return fmt.Errorf("%s.members[%d].email: %w", at, j, err)
		}
		if !found {
			continue
		}
		if m.Permission == none {
			err = in.RemovePermission(ctx, w.ID, user.ID)
		} else {
			err = in.PutPermission(ctx, w.ID, user.ID, access.Permission(m.Permission))
		}
		if err != nil {
			return fmt.Errorf("%s.members[%d]: %w", at, j, err)
		}
	}
	return nil
}

// findMember returns the user who is a member as role or permission says. Where
// there is none to remove, found is false.
func findMember(ctx context.Context, in *access.Access, email, as string) (user access.User, found bool, err error) {
	user, err = lookUp(ctx, in, email)
	if as == none && errors.Is(err, access.ErrNotFound) {
		return user, false, nil
	}
	return user, err == nil, err
}

func lookUp(ctx context.Context, in *access.Access, email string) (access.User, error) {
	user, err := in.FindUser(ctx, email)
	if errors.Is(err, access.ErrNotFound) {
		return user, noUser(email)
	}
	return user, err
}

// warnOfNobody logs the members to be removed who are no users: an address may be
// mistyped.
func (s *Server) warnOfNobody(ctx context.Context, doc *Bootstrap) error {
	check := func(at, email, as string) error {
		_, found, err := findMember(ctx, s.access, email, as)
		if err == nil && !found {
			s.cfg.Logger.Warn("bootstrap: there is no such user to remove", "at", at, "email", email)
		}
		return err
	}
	for i, o := range doc.Organizations {
		for j, m := range o.Members {
			if err := check(fmt.Sprintf("organizations[%d].members[%d]", i, j), m.Email, m.Role); err != nil {
				return err
			}
		}
	}
	for i, w := range doc.Workspaces {
		for j, m := range w.Members {
			if err := check(fmt.Sprintf("workspaces[%d].members[%d]", i, j), m.Email, m.Permission); err != nil {
				return err
			}
		}
	}
	return nil
}
