package server

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
