package byok

// WorkspacesPath is the path of the route that lists the workspaces of a user.
// WIRE.md section 14.
const WorkspacesPath = "/api/workspaces"

// ListedWorkspace is a workspace as its list shows it: the fields that a client
// needs. WIRE.md section 14.
type ListedWorkspace struct {
	ID             string  `json:"id"`
	Name           string  `json:"name"`
	OrganizationID *string `json:"organizationId"`
	// ArchivedAt is set for an archived workspace, whose routes all fail.
	ArchivedAt *string `json:"archivedAt"`
	// Permission is admin, write or read.
	Permission string `json:"permissions"`
	// IsOrgAdmin is set for an owner or admin of the workspace's organization.
	IsOrgAdmin bool `json:"isOrgAdmin"`
}

// CanChangeKeys reports whether the user can add, replace and delete keys of the
// workspace. WIRE.md section 3.
func (w ListedWorkspace) CanChangeKeys() bool { return w.Permission == "admin" || w.IsOrgAdmin }

// WorkspacesResponse is the response to GET /api/workspaces.
type WorkspacesResponse struct {
	Workspaces []ListedWorkspace `json:"workspaces"`
}

// InheritedResponse is the response to GET .../byok-keys/inherited-status.
// WIRE.md section 7.
type InheritedResponse struct {
	ProviderIDs []string `json:"inheritedProviderIds"`
}
