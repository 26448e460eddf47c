package provider

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// The values of cap_check.
const (
	capCheckError   = "error"
	capCheckWarning = "warning"
	capCheckOff     = "off"
)

// maxMaxRetries bounds max_retries: with the growing pauses between attempts,
// more would outlast any timeout.
const maxMaxRetries = 100

// Environment variables that stand in for attributes that are not set.
const (
	envEndpoint           = "BYOK_ENDPOINT"
	envWorkspaceID        = "BYOK_WORKSPACE_ID"
	envSessionToken       = "BYOK_SESSION_TOKEN"
	envEmail              = "BYOK_EMAIL"
	envPassword           = "BYOK_PASSWORD"
	envCACertPEM          = "BYOK_CA_CERT_PEM"
	envInsecure           = "BYOK_INSECURE"
	envRequestTimeout     = "BYOK_REQUEST_TIMEOUT"
	envMaxRetries         = "BYOK_MAX_RETRIES"
	envCapCheck           = "BYOK_CAP_CHECK"
	envDeployment         = "BYOK_DEPLOYMENT"
	envMaxKeysPerProvider = "BYOK_MAX_KEYS_PER_PROVIDER"
)

// providerModel is the provider block.
type providerModel struct {
	Endpoint           types.String `tfsdk:"endpoint"`
	WorkspaceID        types.String `tfsdk:"workspace_id"`
	SessionToken       types.String `tfsdk:"session_token"`
	Email              types.String `tfsdk:"email"`
	Password           types.String `tfsdk:"password"`
	Headers            types.Map    `tfsdk:"headers"`
	CACertPEM          types.String `tfsdk:"ca_cert_pem"`
	Insecure           types.Bool   `tfsdk:"insecure"`
	RequestTimeout     types.String `tfsdk:"request_timeout"`
	MaxRetries         types.Int64  `tfsdk:"max_retries"`
	CapCheck           types.String `tfsdk:"cap_check"`
	Deployment         types.String `tfsdk:"deployment"`
	MaxKeysPerProvider types.Int64  `tfsdk:"max_keys_per_provider"`
}

// settings is the provider block joined with the environment.
type settings struct {
	client      client.Config
	workspaceID types.String
	capCheck    string
	cap         int
	deployment  string // empty while unknown
	// unknown are the attributes that client needs and that are not known
	// yet.
	unknown []string
	// offline: Configure sends nothing.
	offline bool
	// fromEnv is joiner.fromEnv.
	fromEnv map[string]string
}

// settings joins the block with the environment. A value in the block wins
// over its variable, and a way to sign in that the block chooses wins over
// the variables of the other.
func (m providerModel) settings(getenv func(string) string) (settings, diag.Diagnostics) {
	j := joiner{getenv: getenv, fromEnv: map[string]string{}}
	if m.Endpoint.ValueString() == "" && !m.Endpoint.IsUnknown() && getenv(envEndpoint) == "" {
		j.missing("endpoint", envEndpoint, "The provider needs the base URL of Sim, such as https://sim.example.com.")
	}
	m.chooseSignIn(&j)

	s := settings{
		workspaceID: m.WorkspaceID,
		client: client.Config{
			Endpoint:     j.text("endpoint", m.Endpoint, envEndpoint),
			SessionToken: j.text("session_token", m.SessionToken, j.sessionTokenEnv),
			Email:        j.text("email", m.Email, j.emailEnv),
			Password:     j.text("password", m.Password, j.passwordEnv),
			Headers:      j.headers(m.Headers),
			CACertPEM:    j.text("ca_cert_pem", m.CACertPEM, envCACertPEM),
			Insecure:     j.flag("insecure", m.Insecure, envInsecure),
			MaxRetries:   j.number("max_retries", m.MaxRetries, envMaxRetries, -1, 0, maxMaxRetries),

			RequestTimeout: j.duration("request_timeout", m.RequestTimeout, envRequestTimeout),
		},
	}
	s.unknown, s.fromEnv = j.unknown, j.fromEnv
	if workspaceID := getenv(envWorkspaceID); m.WorkspaceID.ValueString() == "" && !m.WorkspaceID.IsUnknown() {
		s.workspaceID = types.StringNull()
		if workspaceID != "" {
			s.workspaceID = types.StringValue(workspaceID)
			j.fromEnv["workspace_id"] = envWorkspaceID
		}
	}
	if id := s.workspaceID.ValueString(); id != "" {
		if _, problem, _ := idChecks[defaultKind].check(id); problem != "" {
			j.problem("workspace_id", problem)
		}
	}

	// An unknown cap check is decided by the apply, when it is known.
	s.capCheck = j.text("cap_check", m.CapCheck, envCapCheck)
	switch s.capCheck {
	case capCheckError, capCheckWarning, capCheckOff:
	case "":
		s.capCheck = capCheckError
	default:
		j.problem("cap_check", fmt.Sprintf("%s is not one of %q, %q and %q.", shown(s.capCheck), capCheckError, capCheckWarning, capCheckOff))
	}
	s.offline = s.capCheck == capCheckOff
	switch s.deployment = j.text("deployment", m.Deployment, envDeployment); s.deployment {
	case deploymentHosted, deploymentSelfHosted:
	case "":
		if !m.Deployment.IsUnknown() && !m.Endpoint.IsUnknown() {
			s.deployment = deploymentOf(s.client.Endpoint)
		}
	default:
		j.problem("deployment", fmt.Sprintf("%s is not one of %q and %q.", shown(s.deployment), deploymentHosted, deploymentSelfHosted))
	}
	s.cap = j.number("max_keys_per_provider", m.MaxKeysPerProvider, envMaxKeysPerProvider, byok.Cap, 1, 1<<31-1)
	if m.CapCheck.IsUnknown() || m.MaxKeysPerProvider.IsUnknown() {
		s.capCheck = capCheckOff
	}

	if !j.diags.HasError() && len(s.unknown) == 0 {
		j.checkClient(s.client)
	}
	return s, j.diags
}

// chooseSignIn reports a contradiction between the ways to sign in, or that
// none is complete, and sets which variables the joiner may look at.
func (m providerModel) chooseSignIn(j *joiner) {
	if m.SessionToken.IsUnknown() || m.Email.IsUnknown() || m.Password.IsUnknown() {
		return // text notes which
	}
	token := m.SessionToken.ValueString() != ""
	user := m.Email.ValueString() != "" || m.Password.ValueString() != ""
	if token && user {
		j.conflict("session_token", "session_token is set together with email or password. Keep one of the two ways to sign in.")
		return
	}
	if !token && !user {
		token = j.getenv(envSessionToken) != ""
		user = j.getenv(envEmail) != "" || j.getenv(envPassword) != ""
		if token && user {
			j.conflict("session_token", fmt.Sprintf("The environment variable %s is set together with %s or %s. Unset one of the two ways to sign in, or choose one in the provider block.",
				envSessionToken, envEmail, envPassword))
			return
		}
	}
	switch {
	case token:
		j.sessionTokenEnv = envSessionToken
	case user:
		j.emailEnv, j.passwordEnv = envEmail, envPassword
		if m.Email.ValueString() == "" && j.getenv(envEmail) == "" {
			j.missing("email", envEmail, "A password is set, but not the email address that it belongs to.")
		}
		if m.Password.ValueString() == "" && j.getenv(envPassword) == "" {
			j.missing("password", envPassword, "An email address is set, but not its password.")
		}
	default:
		j.missing("session_token", envSessionToken, fmt.Sprintf(
			"The provider needs to sign in, either with a session token or with email (%s) and password (%s).", envEmail, envPassword))
	}
}

// joiner reads attributes and the variables behind them, and collects what is
// wrong with them.
type joiner struct {
	getenv                                 func(string) string
	sessionTokenEnv, emailEnv, passwordEnv string
	fromEnv                                map[string]string // attribute -> the variable that its value is from
	unknown                                []string
	diags                                  diag.Diagnostics
}

// text returns the attribute's value, else that of the variable. An empty
// string is a value that is not set: it is what an absent variable of a
// pipeline looks like.
func (j *joiner) text(attribute string, value types.String, env string) string {
	if value.IsUnknown() {
		if attribute != "cap_check" && attribute != "deployment" {
			j.unknown = append(j.unknown, attribute)
		}
		return ""
	}
	if value.ValueString() != "" || env == "" {
		return value.ValueString()
	}
	fallback := j.getenv(env)
	if fallback != "" {
		j.fromEnv[attribute] = env
	}
	return fallback
}

func (j *joiner) flag(attribute string, value types.Bool, env string) bool {
	if value.IsUnknown() {
		j.unknown = append(j.unknown, attribute)
		return false
	}
	if !value.IsNull() {
		return value.ValueBool()
	}
	text := j.text(attribute, types.StringNull(), env)
	if text == "" {
		return false
	}
	flag, err := strconv.ParseBool(text)
	if err != nil {
		j.problem(attribute, fmt.Sprintf("%s is neither true nor false.", shown(text)))
	}
	return flag
}

func (j *joiner) number(attribute string, value types.Int64, env string, fallback, lowest, highest int64) int {
	if value.IsUnknown() {
		if attribute == "max_retries" {
			j.unknown = append(j.unknown, attribute)
		}
		return int(fallback)
	}
	number := value.ValueInt64()
	if value.IsNull() {
		text := j.text(attribute, types.StringNull(), env)
		if text == "" {
			return int(fallback)
		}
		var err error
		if number, err = strconv.ParseInt(text, 10, 64); err != nil {
			j.problem(attribute, fmt.Sprintf("%s is not a whole number.", shown(text)))
			return int(fallback)
		}
	}
	if number < lowest || number > highest {
		j.problem(attribute, fmt.Sprintf("%d is not between %d and %d.", number, lowest, highest))
		return int(fallback)
	}
	return int(number)
}

func (j *joiner) duration(attribute string, value types.String, env string) time.Duration {
	text := j.text(attribute, value, env)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		j.problem(attribute, fmt.Sprintf("%s is not a duration above zero, such as 30s or 2m.", shown(text)))
	}
	return d
}

func (j *joiner) headers(value types.Map) map[string]string {
	if value.IsUnknown() {
		j.unknown = append(j.unknown, "headers")
		return nil
	}
	headers := make(map[string]string, len(value.Elements()))
	for name, element := range value.Elements() {
		text, _ := element.(types.String)
		if element.IsUnknown() && !slices.Contains(j.unknown, "headers") {
			j.unknown = append(j.unknown, "headers")
		}
		if !element.IsNull() {
			headers[name] = text.ValueString()
		}
	}
	return headers
}

// checkClient reports what the client finds wrong with its configuration.
func (j *joiner) checkClient(cfg client.Config) {
	if cfg.Insecure && cfg.CACertPEM != "" {
		j.conflict("insecure", "insecure accepts any certificate, so ca_cert_pem has no effect. Keep one of the two; the environment variables are "+
			envInsecure+" and "+envCACertPEM+".")
	}
	problems, warnings := cfg.Check()
	for _, p := range problems {
		j.diags.AddAttributeError(fieldPath(p), "Invalid "+string(p.Field), p.Message+j.origin(string(p.Field)))
	}
	for _, p := range warnings {
		j.diags.AddAttributeWarning(fieldPath(p), p.Summary, p.Message+j.origin(string(p.Field)))
	}
}

func (j *joiner) missing(attribute, env, reason string) {
	j.diags.AddAttributeError(path.Root(attribute), "Missing "+attribute,
		fmt.Sprintf("%s Set %s in the provider block, or the environment variable %s.", reason, attribute, env))
}

func (j *joiner) conflict(attribute, reason string) {
	j.diags.AddAttributeError(path.Root(attribute), "Contradictory provider configuration", reason)
}

func (j *joiner) problem(attribute, reason string) {
	j.diags.AddAttributeError(path.Root(attribute), "Invalid "+attribute, reason+j.origin(attribute))
}

func (j *joiner) origin(attribute string) string { return origin(j.fromEnv, attribute) }

// origin is a sentence about a value that the reader will not find in the
// provider block, or empty.
func origin(fromEnv map[string]string, attribute string) string {
	if env := fromEnv[attribute]; env != "" {
		return " The value is that of the environment variable " + env + "."
	}
	return ""
}

func fieldPath(p client.FieldProblem) path.Path {
	if p.Key != "" {
		return path.Root(string(p.Field)).AtMapKey(p.Key)
	}
	return path.Root(string(p.Field))
}
