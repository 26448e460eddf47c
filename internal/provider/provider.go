package provider

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

var (
	_ provider.ProviderWithFunctions     = (*byokProvider)(nil)
	_ provider.ProviderWithListResources = (*byokProvider)(nil)
)

type byokProvider struct {
	version string
	getenv  func(string) string
	edits   []func(*client.Config)

	// operation is the newest one, for shortcuts.
	operation atomic.Pointer[operation]
}

// operation is what all calls of one Terraform operation (plan, apply) share.
// Nothing of it may outlive the operation: Configure builds a new one each time.
type operation struct {
	// api is nil while the configuration of the provider is unknown, as it
	// can be when it follows from another resource. Use the method client.
	api *client.Client
	// unknown are the attributes of the provider that api lacks.
	unknown []string
	// ledger is nil when the cap is not checked.
	ledger *ledger.Ledger
	phase  phase
	// workspaceID is the default for resources and data sources; it can be
	// null and, at plan, unknown.
	workspaceID types.String
	cap         int
	capCheck    string
	// deployment is deploymentHosted or deploymentSelfHosted, or empty while it
	// is unknown.
	deployment string
	notices    notices
}

// client returns the client of the operation, or the error that says why there
// is none. doing completes "Cannot ...".
func (o *operation) client(doing string) (*client.Client, diag.Diagnostics) {
	if o.api == nil {
		return nil, diag.Diagnostics{unknownConfigurationDiagnostic(doing, o.unknown)}
	}
	return o.api, nil
}

func (p *byokProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "byok"
	resp.Version = p.version
}

func (p *byokProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages the AI provider API keys of [Sim](https://github.com/simstudioai/sim) workspaces (\"bring your own key\", BYOK). " +
			"Each workspace can register up to 10 of its own API keys per AI provider, which Sim serves in rotation.",
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
				MarkdownDescription: "PEM certificates to trust in addition to those of the system. Conflicts with `insecure`. " +
					"Environment variable: `BYOK_CA_CERT_PEM`.",
			},
			"insecure": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Disables certificate verification: anyone who intercepts the connection can read the keys. Default: `false`. " +
					"Environment variable: `BYOK_INSECURE`.",
			},
			"request_timeout": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "How long one attempt of one request may take, as a [duration](https://pkg.go.dev/time#ParseDuration). Default: `30s`. " +
					"Environment variable: `BYOK_REQUEST_TIMEOUT`.",
			},
			"max_retries": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "How often a request is repeated after a temporary failure. `0` means never. Default: `4`. " +
					"Creates, updates and deletes whose connection is refused, as while the server restarts, are repeated for as long as their timeout allows. " +
					"Environment variable: `BYOK_MAX_RETRIES`.",
				Validators: []validator.Int64{int64validator.Between(0, maxMaxRetries)},
			},
			"cap_check": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "What a plan does that would leave more keys under one provider ID of a workspace than the server stores: " +
					"`error` (default), `warning`, or `off`. `off` also skips the request with which every plan and apply first checks that it can connect and sign in, so that a plan of new keys sends no requests. Environment variable: `BYOK_CAP_CHECK`.",
				Validators: []validator.String{stringvalidator.OneOf(capCheckError, capCheckWarning, capCheckOff)},
			},
			"deployment": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Whether the endpoint is a `hosted` Sim or a `self_hosted` one, which stores the same keys but uses fewer of them. In plans of new keys and secrets, `self_hosted` warns of provider IDs whose keys workflows do not use, once for each. " +
					"`hosted` warns where a workspace starts or stops using keys of its organization. Default: `hosted` for `sim.ai`, its subdomains, and loopback addresses; otherwise `self_hosted`. Environment variable: `BYOK_DEPLOYMENT`.",
				Validators: []validator.String{stringvalidator.OneOf(deploymentHosted, deploymentSelfHosted)},
			},
			"max_keys_per_provider": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "How many keys the server stores per provider ID in one workspace; for servers with another limit than Sim's. At apply, the limit of the server decides. Default: `10`. " +
					"Environment variable: `BYOK_MAX_KEYS_PER_PROVIDER`.",
				Validators: []validator.Int64{int64validator.AtLeast(1)},
			},
		},
	}
}

// sessionTimeout bounds the request that Configure sends, with its retries: a
// plan must not wait long for a server that is down.
const sessionTimeout = time.Minute

// Configure builds the operation and checks that it can connect and sign in, so
// that what every key would meet is one error. With values that are not known
// yet there is no client: Terraform calls Read and ModifyPlan all the same.
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

	o := &operation{
		workspaceID: settings.workspaceID, cap: settings.cap, capCheck: settings.capCheck, deployment: settings.deployment, unknown: settings.unknown,
	}
	resp.ResourceData, resp.DataSourceData, resp.ListResourceData = o, o, o
	defer p.operation.Store(o)
	if len(settings.unknown) > 0 {
		resp.Diagnostics.Append(unreadDiagnostic(settings.unknown))
		return
	}
	var err error
	if o.api, err = client.New(settings.client); err != nil {
		resp.Diagnostics.AddError("Invalid provider configuration", err.Error())
		return
	}
	if settings.offline {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	if err := o.api.CheckSession(ctx, o.workspaceID.ValueString()); err != nil {
		resp.Diagnostics.Append(sessionDiagnostic(err, settings.fromEnv))
		return
	}
	if o.capCheck == capCheckOff {
		return
	}
	o.ledger = ledger.New(ledger.Config{List: o.api.List, Cap: o.cap})
}

// configuredResource is embedded in every resource. Before Configure, and when
// Terraform asks for a schema only, its operation is empty.
type configuredResource struct{ operation *operation }

// Configure hands over what provider.Configure built.
func (c *configuredResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if o, ok := req.ProviderData.(*operation); ok {
		c.operation = o
	}
}

// configuredDataSource is configuredResource for data sources.
type configuredDataSource struct{ operation *operation }

// Configure hands over what provider.Configure built.
func (c *configuredDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if o, ok := req.ProviderData.(*operation); ok {
		c.operation = o
	}
}

func (p *byokProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{newKeyResource, newPoolResource}
}

func (p *byokProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newKeysDataSource, newWorkspacesDataSource, newInheritedDataSource}
}

func (p *byokProvider) ListResources(context.Context) []func() list.ListResource {
	return []func() list.ListResource{newKeyList, newPoolList}
}

func (p *byokProvider) Functions(context.Context) []func() function.Function {
	return []func() function.Function{newMaskFunction}
}

func userAgent(version, terraformVersion string) string {
	return "terraform-provider-byok/" + version + " (terraform/" + terraformVersion + ")"
}
