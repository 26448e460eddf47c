package provider

import (
	"context"
	"sync/atomic"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

var _ provider.ProviderWithFunctions = (*byokProvider)(nil)

type byokProvider struct {
	version string
	getenv  func(string) string
	edits   []func(*client.Config)

	// walk is the newest one, for shortcuts.
	operation atomic.Pointer[operation]
}

// operation is what all calls of one Terraform operation (plan, apply) share. Nothing of it may
// outlive the operation: Configure builds a new one each time.
type operation struct {
	// client is nil while the configuration of the provider is unknown, as it
	// can be at plan when it follows from another resource.
	client *client.Client
	// ledger is nil when the cap is not checked.
	ledger *ledger.Ledger
	// workspaceID is the default for resources and data sources; it can be
	// null and, at plan, unknown.
	workspaceID types.String
	cap         int
	capCheck    string
}

func (p *byokProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "byok"
	resp.Version = p.version
}

func (p *byokProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages the AI provider API keys of [Sim](https://github.com/simstudioai/sim) workspaces (\"bring your own key\", BYOK). " +
			"A workspace holds up to 10 keys per provider ID, which Sim serves in rotation.",
		Attributes: map[string]schema.Attribute{
			"endpoint": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Base URL of Sim, such as `https://sim.example.com`. Environment variable: `BYOK_ENDPOINT`.",
			},
			"workspace_id": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "ID of the workspace for every resource and data source that does not set its own. Environment variable: `BYOK_WORKSPACE_ID`.",
			},
			"session_token": schema.StringAttribute{
				Optional:  true,
				Sensitive: true,
				MarkdownDescription: "Value of the session cookie (`better-auth.session_token`, on https `__Secure-better-auth.session_token`) of a signed-in user, percent-encoded or not. " +
					"Conflicts with `email` and `password`. Environment variable: `BYOK_SESSION_TOKEN`.",
			},
			"email": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Email address of the user to sign in as, once in each Terraform operation. Needs `password`, conflicts with `session_token`. " +
					"Environment variable: `BYOK_EMAIL`.",
			},
			"password": schema.StringAttribute{
				Optional:            true,
				Sensitive:           true,
				MarkdownDescription: "Password of the user to sign in as. Environment variable: `BYOK_PASSWORD`.",
			},
			"headers": schema.MapAttribute{
				ElementType:         types.StringType,
				Optional:            true,
				Sensitive:           true,
				MarkdownDescription: "Headers to send with every request, for a gateway in front of Sim.",
			},
			"ca_cert_pem": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "PEM certificates to trust beside those of the system. Conflicts with `insecure`. " +
					"Environment variable: `BYOK_CA_CERT_PEM`.",
			},
			"insecure": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Whether to accept any certificate of the server. Anybody on the way can then read the keys. Default: `false`. " +
					"Environment variable: `BYOK_INSECURE`.",
			},
			"request_timeout": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "How long one attempt of one request may take, as a [duration](https://pkg.go.dev/time#ParseDuration). Default: `30s`. " +
					"Environment variable: `BYOK_REQUEST_TIMEOUT`.",
			},
			"max_retries": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "How often a request is repeated after a failure that can pass. `0` means never. Default: `4`. " +
					"Environment variable: `BYOK_MAX_RETRIES`.",
				Validators: []validator.Int64{int64validator.Between(0, maxMaxRetries)},
			},
			"cap_check": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "What a plan does that would leave more keys under one provider ID of a workspace than the server stores: " +
					"`error` (default), `warning`, or `off`. Environment variable: `BYOK_CAP_CHECK`.",
				Validators: []validator.String{stringvalidator.OneOf(capCheckError, capCheckWarning, capCheckOff)},
			},
			"max_keys_per_provider": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "How many keys the server stores per provider ID in one workspace; for servers with another limit than Sim's. The server's own answer still rules. Default: `10`. " +
					"Environment variable: `BYOK_MAX_KEYS_PER_PROVIDER`.",
				Validators: []validator.Int64{int64validator.AtLeast(1)},
			},
		},
	}
}

// Configure builds the walk. Values that are not known yet leave its client
// out: Terraform calls Read and ModifyPlan all the same.
func (p *byokProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var model providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	settings, diags := model.settings(p.getenv)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	settings.client.UserAgent = userAgent(p.version, req.TerraformVersion)
	for _, edit := range p.edits {
		edit(&settings.client)
	}

	w := &operation{workspaceID: settings.workspaceID, cap: settings.cap, capCheck: settings.capCheck}
	resp.ResourceData, resp.DataSourceData = w, w
	defer p.operation.Store(w)
	if settings.unknown {
		return
	}
	var err error
	if w.client, err = client.New(settings.client); err != nil {
		resp.Diagnostics.AddError("Invalid provider configuration", err.Error())
		return
	}
	if w.capCheck == capCheckOff {
		return
	}
	w.ledger = ledger.New(ledger.Config{List: w.client.List, Cap: w.cap})
}

func (p *byokProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{newKeyResource, newPoolResource}
}

func (p *byokProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newKeysDataSource}
}

func (p *byokProvider) Functions(context.Context) []func() function.Function {
	return []func() function.Function{newMaskFunction}
}

func userAgent(version, terraformVersion string) string {
	return "terraform-provider-byok/" + version + " (terraform/" + terraformVersion + ")"
}
