package provider

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var _ datasource.DataSourceWithConfigure = (*workspacesDataSource)(nil)

// workspacesDataSource is byok_workspaces: the workspaces of the user.
type workspacesDataSource struct{ configuredDataSource }

func newWorkspacesDataSource() datasource.DataSource {
	return &workspacesDataSource{configuredDataSource{&operation{}}}
}

type workspacesModel struct {
	Name       types.String      `tfsdk:"name"`
	Workspaces []listedWorkspace `tfsdk:"workspaces"`
}

type listedWorkspace struct {
	ID             string  `tfsdk:"id"`
	Name           string  `tfsdk:"name"`
	Permission     string  `tfsdk:"permission"`
	OrganizationID *string `tfsdk:"organization_id"`
}

func (d *workspacesDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_workspaces"
}

func (d *workspacesDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists the workspaces that the signed-in user has any permission on, or looks one up by its name. Archived workspaces are left out. Needs a Sim with `GET /api/workspaces`.",
		Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Return the workspace with this name only. It is an error if there is none, or more than one: the names of workspaces need not be unique. " +
					"Upper and lower case differ.",
			},
			"workspaces": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "The workspaces by name, then by ID.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"id":              schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the workspace."},
					"name":            schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the workspace."},
					"permission":      schema.StringAttribute{Computed: true, MarkdownDescription: "Permission of the user: `admin`, `write` or `read`. Only `admin` can manage keys."},
					"organization_id": schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the organization that the workspace belongs to, or null."},
				}},
			},
		},
	}
}

func (d *workspacesDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	call := d.operation.beginList()
	defer call.End()
	var model workspacesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	api, diags := d.operation.client("list workspaces")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	all, err := api.Workspaces(ctx)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", workspacesRef{}))
		return
	}
	model, diags = model.withWorkspaces(all)
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, model)...)
}

// withWorkspaces returns m with the workspaces that it asks for.
func (m workspacesModel) withWorkspaces(all []byok.ListedWorkspace) (workspacesModel, diag.Diagnostics) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b byok.ListedWorkspace) int {
		return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID)
	})
	m.Workspaces = []listedWorkspace{}
	for _, w := range all {
		if m.Name.IsNull() || m.Name.ValueString() == w.Name {
			m.Workspaces = append(m.Workspaces, listedWorkspace{ID: w.ID, Name: w.Name, Permission: w.Permission, OrganizationID: w.OrganizationID})
		}
	}
	switch name := m.Name.ValueString(); {
	case m.Name.IsNull() || len(m.Workspaces) == 1:
		return m, nil
	case len(m.Workspaces) == 0:
		return m, lookupError("No workspace with this name", fmt.Sprintf("The user has no workspace with the name %q. %s", name, namesOf(all)))
	default:
		ids := make([]string, len(m.Workspaces))
		for i, w := range m.Workspaces {
			ids[i] = w.ID
		}
		return m, lookupError("Several workspaces with this name", fmt.Sprintf(
			"The user has %d workspaces with the name %q. Use the ID of the one that you mean: %s.", len(ids), name, strings.Join(ids, ", ")))
	}
}

func lookupError(summary, detail string) diag.Diagnostics {
	return diag.Diagnostics{diag.NewAttributeErrorDiagnostic(path.Root("name"), summary, detail)}
}

// maxNames is how many names an error lists.
const maxNames = 50

// namesOf is a sentence with the names of sorted workspaces.
func namesOf(all []byok.ListedWorkspace) string {
	if len(all) == 0 {
		return "The user has no workspaces at all; an admin of a workspace can invite them."
	}
	names := make([]string, 0, len(all))
	for _, w := range all {
		names = append(names, strconv.Quote(w.Name))
	}
	names = slices.Compact(names)
	more := ""
	if n := len(names) - maxNames; n > 0 {
		names, more = names[:maxNames], fmt.Sprintf(" and %d more", n)
	}
	return "The names are: " + strings.Join(names, ", ") + more + "."
}
