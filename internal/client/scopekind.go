package client

import "github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"

// kindRules are the responses of the routes of one kind of scope, as far as
// they differ from those of the other.
type kindRules struct {
	// refusals are the kinds of 403 and 404 responses, by the text of the
	// error. Any other 403 is KindForbidden.
	refusals map[string]Kind
	// addedTimes are the timestamps that the response to an add has.
	addedTimes []keyTime
	// noPermission is what a 401 of a list means where the session is valid; empty
	// where only an invalid session gets one.
	noPermission Kind
	// unauthorizedList and forbidden say what a 401 of a list and a 403 mean.
	unauthorizedList, forbidden string
}

// keyTime is a timestamp of a key, by its name on the wire.
type keyTime struct {
	name  string
	value func(byok.Key) string
}

var (
	createdAt = keyTime{"createdAt", func(key byok.Key) string { return key.CreatedAt }}
	updatedAt = keyTime{"updatedAt", func(key byok.Key) string { return key.UpdatedAt }}
)

// rules has one row for each kind of scope. WIRE.md sections 3 to 7.
var rules = [...]kindRules{
	byok.Workspace: {
		refusals: map[string]Kind{
			"Workspace not found":                KindWorkspaceNotFound,
			"Insufficient workspace permissions": KindNoAccess,
		},
		noPermission:     KindNoAccess,
		addedTimes:       []keyTime{createdAt},
		unauthorizedList: "the session is not valid, or its user has no permission on this workspace",
		forbidden:        "the user is not an admin of this workspace, or the workspace does not exist or is archived",
	},
	byok.Organization: {
		refusals: map[string]Kind{
			"Not a member of the requested organization":                    KindNotMember,
			"Organization admin or owner role required":                     KindRoleRequired,
			"An active organization plan is required for organization BYOK": KindNotEntitled,
		},
		addedTimes:       []keyTime{createdAt, updatedAt},
		unauthorizedList: "the session is not valid",
		forbidden:        "the server refused access to this organization",
	},
}
