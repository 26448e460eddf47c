package provider

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

const testToken = "tokentokentokentokentokentokento.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmE9"

// text lists diagnostics one a line: severity, attribute, summary, detail.
func text(diags diag.Diagnostics) string {
	var lines []string
	for _, d := range diags {
		at := ""
		if d, ok := d.(diag.DiagnosticWithPath); ok {
			at = d.Path().String()
		}
		lines = append(lines, strings.ToLower(d.Severity().String())+" "+at+": "+d.Summary()+": "+d.Detail())
	}
	return strings.Join(lines, "\n")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	str := types.StringValue
	type env = map[string]string
	base := providerModel{Endpoint: str("https://sim.test"), SessionToken: str(testToken)}
	baseClient := client.Config{Endpoint: "https://sim.test", SessionToken: testToken, MaxRetries: -1, Headers: map[string]string{}}
	withModel := func(change func(*providerModel)) providerModel { m := base; change(&m); return m }
	withClient := func(change func(*client.Config)) settings {
		c := baseClient
		change(&c)
		return settings{client: c, capCheck: capCheckError, cap: 10, deployment: deploymentSelfHosted}
	}

	for title, tc := range map[string]struct {
		model providerModel
		env   env
		want  settings
	}{
		"block": {base, nil, withClient(func(*client.Config) {})},
		"environment": {providerModel{}, env{
			"BYOK_ENDPOINT": "https://sim.test", "BYOK_SESSION_TOKEN": testToken, "BYOK_WORKSPACE_ID": "ws", "BYOK_REQUEST_TIMEOUT": "5s",
			"BYOK_MAX_RETRIES": "0", "BYOK_CAP_CHECK": "warning", "BYOK_MAX_KEYS_PER_PROVIDER": "20", "BYOK_INSECURE": "true", "BYOK_DEPLOYMENT": "hosted",
		}, settings{client: client.Config{Endpoint: "https://sim.test", SessionToken: testToken, Insecure: true, RequestTimeout: 5 * time.Second, Headers: map[string]string{}},
			workspaceID: str("ws"), capCheck: capCheckWarning, cap: 20, deployment: deploymentHosted}},
		"block before environment": {withModel(func(m *providerModel) {
			m.WorkspaceID, m.MaxRetries, m.CapCheck = str("mine"), types.Int64Value(7), str("off")
		}), env{"BYOK_ENDPOINT": "https://other.test", "BYOK_WORKSPACE_ID": "ws", "BYOK_MAX_RETRIES": "0", "BYOK_CAP_CHECK": "warning"},
			settings{client: func() client.Config { c := baseClient; c.MaxRetries = 7; return c }(), workspaceID: str("mine"), capCheck: capCheckOff, offline: true, cap: 10, deployment: deploymentSelfHosted}},
		"token in the block, user in the environment": {base, env{"BYOK_EMAIL": "a@b.test", "BYOK_PASSWORD": "pw"}, withClient(func(*client.Config) {})},
		"user in the block, token in the environment": {withModel(func(m *providerModel) {
			m.SessionToken, m.Email, m.Password = types.StringNull(), str("a@b.test"), str("pw")
		}), env{"BYOK_SESSION_TOKEN": testToken}, withClient(func(c *client.Config) { c.SessionToken, c.Email, c.Password = "", "a@b.test", "pw" })},
		"email in the block, password in the environment": {withModel(func(m *providerModel) {
			m.SessionToken, m.Email = types.StringNull(), str("a@b.test")
		}), env{"BYOK_PASSWORD": "pw"}, withClient(func(c *client.Config) { c.SessionToken, c.Email, c.Password = "", "a@b.test", "pw" })},
		"empty is not set": {withModel(func(m *providerModel) {
			m.Email, m.CACertPEM, m.WorkspaceID, m.RequestTimeout, m.CapCheck = str(""), str(""), str(""), str(""), str("")
		}), env{"BYOK_CA_CERT_PEM": "", "BYOK_MAX_RETRIES": ""}, withClient(func(*client.Config) {})},
		"headers": {withModel(func(m *providerModel) {
			m.Headers = types.MapValueMust(types.StringType, map[string]attr.Value{"X-Gateway": str("v"), "X-Absent": types.StringNull()})
		}), nil, withClient(func(c *client.Config) { c.Headers = map[string]string{"X-Gateway": "v"} })},
		"unknown endpoint": {withModel(func(m *providerModel) { m.Endpoint = types.StringUnknown() }), nil,
			func() settings {
				s := withClient(func(c *client.Config) { c.Endpoint = "" })
				s.unknown, s.deployment = []string{"endpoint"}, ""
				return s
			}()},
		"unknown workspace": {withModel(func(m *providerModel) { m.WorkspaceID = types.StringUnknown() }), env{"BYOK_WORKSPACE_ID": "ws"},
			func() settings {
				s := withClient(func(*client.Config) {})
				s.workspaceID = types.StringUnknown()
				return s
			}()},
		"unknown deployment": {withModel(func(m *providerModel) { m.Deployment = types.StringUnknown() }), env{"BYOK_DEPLOYMENT": "hosted"},
			func() settings { s := withClient(func(*client.Config) {}); s.deployment = ""; return s }()},
		"unknown cap": {withModel(func(m *providerModel) { m.MaxKeysPerProvider = types.Int64Unknown() }), nil,
			func() settings { s := withClient(func(*client.Config) {}); s.capCheck = capCheckOff; return s }()},
	} {
		got, diags := tc.model.settings(func(name string) string { return tc.env[name] })
		if len(diags) > 0 {
			t.Errorf("%s: %s", title, text(diags))
		}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(settings{}), cmpopts.IgnoreFields(settings{}, "fromEnv")); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
	}
}

// Whatever is not known yet leaves the client out, and is no error.
func TestSettingsUnknown(t *testing.T) {
	t.Parallel()
	known := func() providerModel {
		return providerModel{Endpoint: types.StringValue("https://sim.test"), SessionToken: types.StringValue(testToken)}
	}
	for title, change := range map[string]func(*providerModel){
		"endpoint":      func(m *providerModel) { m.Endpoint = types.StringUnknown() },
		"session_token": func(m *providerModel) { m.SessionToken = types.StringUnknown() },
		"email":         func(m *providerModel) { m.SessionToken, m.Email = types.StringNull(), types.StringUnknown() },
		"password":      func(m *providerModel) { m.SessionToken, m.Password = types.StringNull(), types.StringUnknown() },
		"headers":       func(m *providerModel) { m.Headers = types.MapUnknown(types.StringType) },
		"a header": func(m *providerModel) {
			m.Headers = types.MapValueMust(types.StringType, map[string]attr.Value{"X-A": types.StringUnknown()})
		},
		"ca_cert_pem":     func(m *providerModel) { m.CACertPEM = types.StringUnknown() },
		"insecure":        func(m *providerModel) { m.Insecure = types.BoolUnknown() },
		"request_timeout": func(m *providerModel) { m.RequestTimeout = types.StringUnknown() },
		"max_retries":     func(m *providerModel) { m.MaxRetries = types.Int64Unknown() },
	} {
		m := known()
		change(&m)
		if s, diags := m.settings(func(string) string { return "" }); len(s.unknown) != 1 || s.unknown[0] != strings.Replace(title, "a header", "headers", 1) || len(diags) > 0 {
			t.Errorf("%s: unknown %v, %s", title, s.unknown, text(diags))
		}
	}
}

func TestSettingsErrors(t *testing.T) {
	t.Parallel()
	str := types.StringValue
	type env = map[string]string
	token := env{"BYOK_ENDPOINT": "https://sim.test", "BYOK_SESSION_TOKEN": testToken}
	and := func(more env) env {
		all := env{}
		for _, e := range []env{token, more} {
			for k, v := range e {
				all[k] = v
			}
		}
		return all
	}
	for title, tc := range map[string]struct {
		model providerModel
		env   env
		want  string
	}{
		"nothing": {providerModel{}, nil,
			"error endpoint: Missing endpoint: The provider needs the base URL of Sim, such as https://sim.example.com. Set endpoint in the provider block, or the environment variable BYOK_ENDPOINT.\n" +
				"error session_token: Missing session_token: The provider needs to sign in, either with a session token or with email (BYOK_EMAIL) and password (BYOK_PASSWORD). Set session_token in the provider block, or the environment variable BYOK_SESSION_TOKEN."},
		"email alone": {providerModel{Endpoint: str("https://sim.test"), Email: str("a@b.test")}, nil,
			"error password: Missing password: An email address is set, but not its password. Set password in the provider block, or the environment variable BYOK_PASSWORD."},
		"password alone": {providerModel{}, env{"BYOK_ENDPOINT": "https://sim.test", "BYOK_PASSWORD": "pw"},
			"error email: Missing email: A password is set, but not the email address that it belongs to. Set email in the provider block, or the environment variable BYOK_EMAIL."},
		"token and user in the block": {providerModel{Endpoint: str("https://sim.test"), SessionToken: str(testToken), Email: str("a@b.test"), Password: str("pw")}, nil,
			"error session_token: Contradictory provider configuration: session_token is set together with email or password. Keep one of the two ways to sign in."},
		"token and user in the environment": {providerModel{}, and(env{"BYOK_EMAIL": "a@b.test", "BYOK_PASSWORD": "pw"}),
			"error session_token: Contradictory provider configuration: The environment variable BYOK_SESSION_TOKEN is set together with BYOK_EMAIL or BYOK_PASSWORD. Unset one of the two ways to sign in, or choose one in the provider block."},
		"insecure and certificates": {providerModel{Insecure: types.BoolValue(true), CACertPEM: str("x")}, token,
			"error insecure: Contradictory provider configuration: insecure accepts any certificate, so ca_cert_pem has no effect. Keep one of the two; the environment variables are BYOK_INSECURE and BYOK_CA_CERT_PEM.\n" +
				"error ca_cert_pem: Invalid ca_cert_pem: There is no PEM certificate here. Expected text that begins with -----BEGIN CERTIFICATE-----; to use a file, read it with file()."},
		"endpoint": {providerModel{}, and(env{"BYOK_ENDPOINT": "sim.test"}),
			"error endpoint: Invalid endpoint: The endpoint must be an absolute http or https URL, such as https://sim.example.com. The value is that of the environment variable BYOK_ENDPOINT."},
		"plain http": {providerModel{Endpoint: str("http://sim.test")}, token,
			"warning endpoint: Unencrypted endpoint: The endpoint uses http: API keys and the session are sent unencrypted over the network. Use https."},
		"insecure": {providerModel{}, and(env{"BYOK_INSECURE": "maybe"}),
			`error insecure: Invalid insecure: "maybe" is neither true nor false. The value is that of the environment variable BYOK_INSECURE.`},
		"request_timeout": {providerModel{RequestTimeout: str("30")}, token,
			`error request_timeout: Invalid request_timeout: "30" is not a duration above zero, such as 30s or 2m.`},
		"request_timeout in the environment": {providerModel{}, and(env{"BYOK_REQUEST_TIMEOUT": "-1s"}),
			`error request_timeout: Invalid request_timeout: "-1s" is not a duration above zero, such as 30s or 2m. The value is that of the environment variable BYOK_REQUEST_TIMEOUT.`},
		"max_retries": {providerModel{}, and(env{"BYOK_MAX_RETRIES": "many"}),
			`error max_retries: Invalid max_retries: "many" is not a whole number. The value is that of the environment variable BYOK_MAX_RETRIES.`},
		"max_retries below zero": {providerModel{}, and(env{"BYOK_MAX_RETRIES": "-1"}),
			"error max_retries: Invalid max_retries: -1 is not between 0 and 100. The value is that of the environment variable BYOK_MAX_RETRIES."},
		"cap_check": {providerModel{}, and(env{"BYOK_CAP_CHECK": "no"}),
			`error cap_check: Invalid cap_check: "no" is not one of "error", "warning" and "off". The value is that of the environment variable BYOK_CAP_CHECK.`},
		"deployment": {providerModel{}, and(env{"BYOK_DEPLOYMENT": "cloud"}),
			`error deployment: Invalid deployment: "cloud" is not one of "hosted" and "self_hosted". The value is that of the environment variable BYOK_DEPLOYMENT.`},
		"max_keys_per_provider": {providerModel{}, and(env{"BYOK_MAX_KEYS_PER_PROVIDER": "0"}),
			"error max_keys_per_provider: Invalid max_keys_per_provider: 0 is not between 1 and 2147483647. The value is that of the environment variable BYOK_MAX_KEYS_PER_PROVIDER."},
		"header": {providerModel{Headers: types.MapValueMust(types.StringType, map[string]attr.Value{"Cookie": str("a")})}, token,
			`error headers["Cookie"]: Invalid headers: The header Cookie is reserved for the provider and cannot be set.`},
	} {
		_, diags := tc.model.settings(func(name string) string { return tc.env[name] })
		if diff := cmp.Diff(tc.want, text(diags)); diff != "" {
			t.Errorf("%s: %s", title, diff)
		}
	}
}

func TestUserAgent(t *testing.T) {
	t.Parallel()
	if got, want := userAgent("1.2.3", "1.11.4"), "terraform-provider-byok/1.2.3 (terraform/1.11.4)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
