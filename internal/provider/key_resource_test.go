package provider

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/config"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

const keysPath = "/byok-keys"

var (
	apiTime     = knownvalue.StringRegexp(regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`))
	keyIDForm   = knownvalue.StringRegexp(regexp.MustCompile(`^[A-Za-z0-9_-]{21}$`))
	userIDForm  = knownvalue.StringRegexp(regexp.MustCompile(`^[A-Za-z0-9]{32}$`))
	isUpdate    = plannedAs(plancheck.ResourceActionUpdate)
	isNoOp      = plannedAs(plancheck.ResourceActionNoop)
	isReplace   = plannedAs(plancheck.ResourceActionDestroyBeforeCreate)
	isCreate    = plannedAs(plancheck.ResourceActionCreate)
	staysTheOne = compare.ValuesSame
)

func plannedAs(action plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction("byok_key.test", action)}}
}

func at(attribute string) tfjsonpath.Path { return tfjsonpath.New(attribute) }

// key is the configuration of byok_key.test with these arguments.
func key(s *acctest.Server, arguments ...string) string {
	return s.ProviderConfig() + "\nresource \"byok_key\" \"test\" {\n  " + strings.Join(arguments, "\n  ") + "\n}\n"
}

// expectServed fails the test unless the server serves exactly these secrets
// in rotation.
func expectServed(t *testing.T, s *acctest.Server, providerID string, want ...string) {
	t.Helper()
	var got []string
	if !s.CanResolve() { // the masks have to do
		var masks []string
		for _, k := range s.List(t, s.WorkspaceID) {
			if k.ProviderID == providerID {
				got = append(got, k.MaskedKey)
			}
		}
		for _, secret := range want {
			masks = append(masks, byok.Mask(secret))
		}
		slices.Sort(got)
		slices.Sort(masks)
		if diff := cmp.Diff(masks, got); diff != "" {
			t.Error(diff)
		}
		return
	}
	for range want {
		served := s.Resolve(t, s.WorkspaceID, providerID)
		if served == nil {
			t.Fatalf("nothing is served, want %d keys", len(want))
		}
		got = append(got, served.APIKey)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// destroyed checks that nothing is left in the workspace.
func destroyed(t *testing.T, s *acctest.Server) func(*terraform.State) error {
	return func(*terraform.State) error {
		if left := s.List(t, s.WorkspaceID); len(left) > 0 {
			return fmt.Errorf("%d keys are left", len(left))
		}
		return nil
	}
}

func TestAccKeyLifecycle(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	other := s.NewWorkspace(t)
	sameID := statecheck.CompareValue(staysTheOne())
	sameBirth := statecheck.CompareValue(staysTheOne())
	newID := statecheck.CompareValue(compare.ValuesDiffer())
	stays := func(more ...statecheck.StateCheck) []statecheck.StateCheck {
		return append(more, sameID.AddStateValue("byok_key.test", at("id")), sameBirth.AddStateValue("byok_key.test", at("created_at")))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: factories(),
		CheckDestroy: func(st *terraform.State) error {
			if left := s.List(t, other); len(left) > 0 {
				return fmt.Errorf("%d keys are left in the other workspace", len(left))
			}
			return destroyed(t, s)(st)
		},
		Steps: []resource.TestStep{
			{
				Config: key(s, `provider_id = "openai"`, `name = "  prod "`, `api_key = "`+secretA+`"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction("byok_key.test", plancheck.ResourceActionCreate),
					plancheck.ExpectKnownValue("byok_key.test", at("workspace_id"), knownvalue.StringExact(s.WorkspaceID)),
					plancheck.ExpectUnknownValue("byok_key.test", at("id")),
					plancheck.ExpectUnknownValue("byok_key.test", at("masked_key")),
					plancheck.ExpectUnknownValue("byok_key.test", at("created_at")),
					plancheck.ExpectUnknownValue("byok_key.test", at("created_by")),
					plancheck.ExpectUnknownValue("byok_key.test", at("updated_at")),
					plancheck.ExpectSensitiveValue("byok_key.test", at("api_key")),
				}},
				ConfigStateChecks: stays(
					statecheck.ExpectKnownValue("byok_key.test", at("workspace_id"), knownvalue.StringExact(s.WorkspaceID)),
					statecheck.ExpectKnownValue("byok_key.test", at("provider_id"), knownvalue.StringExact("openai")),
					statecheck.ExpectKnownValue("byok_key.test", at("name"), knownvalue.StringExact("  prod ")),
					statecheck.ExpectKnownValue("byok_key.test", at("on_remote_change"), knownvalue.StringExact("repair")),
					statecheck.ExpectKnownValue("byok_key.test", at("id"), keyIDForm),
					statecheck.ExpectKnownValue("byok_key.test", at("masked_key"), knownvalue.StringExact(byok.Mask(secretA))),
					statecheck.ExpectKnownValue("byok_key.test", at("created_by"), userIDForm),
					statecheck.ExpectKnownValue("byok_key.test", at("created_at"), apiTime),
					statecheck.ExpectKnownValue("byok_key.test", at("updated_at"), apiTime),
				),
			},
			{ // another secret
				PreConfig:        func() { expectServed(t, s, "openai", secretA) },
				Config:           key(s, `provider_id = "openai"`, `name = "  prod "`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isUpdate,
				ConfigStateChecks: stays(
					statecheck.ExpectKnownValue("byok_key.test", at("masked_key"), knownvalue.StringExact(byok.Mask(secretB))),
				),
			},
			{ // a name that the API would store the same plans nothing
				PreConfig:        func() { expectServed(t, s, "openai", secretB) },
				Config:           key(s, `provider_id = "openai"`, `name = "prod"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isNoOp,
			},
			{ // another name
				Config:           key(s, `provider_id = "openai"`, `name = "production"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isUpdate,
				ConfigStateChecks: stays(
					statecheck.ExpectKnownValue("byok_key.test", at("name"), knownvalue.StringExact("production")),
				),
			},
			{ // no name
				Config:           key(s, `provider_id = "openai"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isUpdate,
				ConfigStateChecks: stays(
					statecheck.ExpectKnownValue("byok_key.test", at("name"), knownvalue.Null()),
				),
			},
			{ // another provider ID
				PreConfig: func() {
					if name := s.List(t, s.WorkspaceID)[0].Name; name != nil {
						t.Errorf("the name is still %q", *name)
					}
				},
				Config:           key(s, `provider_id = "anthropic"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isReplace,
				ConfigStateChecks: []statecheck.StateCheck{
					newID.AddStateValue("byok_key.test", at("id")),
				},
			},
			{ // another workspace
				Config:           key(s, `provider_id = "anthropic"`, `workspace_id = "`+other+`"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isReplace,
				ConfigStateChecks: []statecheck.StateCheck{
					newID.AddStateValue("byok_key.test", at("id")),
					statecheck.ExpectKnownValue("byok_key.test", at("workspace_id"), knownvalue.StringExact(other)),
				},
			},
			{ // back to the workspace of the provider
				Config:           key(s, `provider_id = "anthropic"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks: isReplace,
				ConfigStateChecks: []statecheck.StateCheck{
					newID.AddStateValue("byok_key.test", at("id")),
					statecheck.ExpectKnownValue("byok_key.test", at("workspace_id"), knownvalue.StringExact(s.WorkspaceID)),
				},
			},
			{ // deleted elsewhere
				PreConfig: func() {
					s.Delete(t, s.WorkspaceID, "anthropic", s.List(t, s.WorkspaceID)[0].ID)
				},
				Config:            key(s, `provider_id = "anthropic"`, `api_key = "`+secretB+`"`),
				ConfigPlanChecks:  isCreate,
				ConfigStateChecks: []statecheck.StateCheck{newID.AddStateValue("byok_key.test", at("id"))},
			},
		},
	})
}

// Every step plans empty once it is applied: resource.Test checks that.
func TestAccKeyWriteOnly(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	variables := func(secret string) config.Variables { return config.Variables{"secret": config.StringVariable(secret)} }
	key := func(arguments ...string) string {
		return "variable \"secret\" {\n  type      = string\n  ephemeral = true\n  default   = null\n}\n" +
			key(s, append([]string{`provider_id = "openai"`}, arguments...)...)
	}
	sameID := statecheck.CompareValue(staysTheOne())
	stays := func(more ...statecheck.StateCheck) []statecheck.StateCheck {
		return append(more, sameID.AddStateValue("byok_key.test", at("id")),
			statecheck.ExpectKnownValue("byok_key.test", at("api_key_wo"), knownvalue.Null()))
	}
	inState := func(v knownvalue.Check) statecheck.StateCheck {
		return statecheck.ExpectKnownValue("byok_key.test", at("api_key"), v)
	}
	served := func(secret string) func() { return func() { expectServed(t, s, "openai", secret) } }
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: factories(),
		CheckDestroy:             destroyed(t, s),
		Steps: []resource.TestStep{
			{ // noticed without a version
				Config: key(`api_key_wo = var.secret`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isCreate, ConfigStateChecks: stays(inState(knownvalue.Null())),
			},
			{
				PreConfig: served(secretA),
				Config:    key(`api_key_wo = var.secret`), ConfigVariables: variables(secretB),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction("byok_key.test", plancheck.ResourceActionUpdate),
					plancheck.ExpectUnknownValue("byok_key.test", at("masked_key")),
					plancheck.ExpectUnknownValue("byok_key.test", at("updated_at")),
				}},
				ConfigStateChecks: stays(),
			},
			{
				PreConfig: served(secretB),
				Config:    key(`api_key_wo = var.secret`), ConfigVariables: variables(secretB),
				ConfigPlanChecks: isNoOp, ConfigStateChecks: stays(),
			},
			{ // a pipeline without the secret
				Config:           key(`api_key_wo = var.secret`),
				ConfigPlanChecks: isNoOp, ConfigStateChecks: stays(),
			},
			{
				Config: key(`name = "new"`), ConfigVariables: variables(secretB),
				ExpectError: regexp.MustCompile(`A rename needs the API key`),
			},
			{ // with a version, it alone decides
				Config: key(`api_key_wo = var.secret`, `api_key_wo_version = 1`), ConfigVariables: variables(secretB),
				ConfigPlanChecks: isUpdate, ConfigStateChecks: stays(),
			},
			{
				Config: key(`api_key_wo = var.secret`, `api_key_wo_version = 1`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isNoOp, ConfigStateChecks: stays(),
			},
			{
				PreConfig: served(secretB),
				Config:    key(`api_key_wo = var.secret`, `api_key_wo_version = 2`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isUpdate, ConfigStateChecks: stays(),
			},
			{
				PreConfig:   served(secretA),
				Config:      key(`api_key_wo_version = 3`),
				ExpectError: regexp.MustCompile(`A new version needs the API key`),
			},
			{ // a rename in place
				Config: key(`api_key_wo = var.secret`, `api_key_wo_version = 2`, `name = "new"`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isUpdate, ConfigStateChecks: stays(),
			},
			{ // to api_key
				Config:           key(`api_key = "`+secretB+`"`, `name = "new"`),
				ConfigPlanChecks: isUpdate, ConfigStateChecks: stays(inState(knownvalue.StringExact(secretB))),
			},
			{ // a pipeline without the secret
				PreConfig:        served(secretB),
				Config:           key(`name = "new"`),
				ConfigPlanChecks: isNoOp, ConfigStateChecks: stays(inState(knownvalue.StringExact(secretB))),
			},
			{ // and back
				Config: key(`api_key_wo = var.secret`, `name = "new"`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isUpdate, ConfigStateChecks: stays(inState(knownvalue.Null())),
			},
			{
				PreConfig: served(secretA),
				Config:    key(`api_key_wo = var.secret`, `name = "new"`), ConfigVariables: variables(secretA),
				ConfigPlanChecks: isNoOp,
			},
		},
	})
}

func TestAccKeyUnknownValues(t *testing.T) {
	t.Parallel()
	for title, arguments := range map[string][]string{
		"api_key":               {`provider_id = "openai"`, `api_key = terraform_data.source.output`},
		"write-only":            {`provider_id = "openai"`, `api_key_wo = terraform_data.source.output`},
		"write-only, versioned": {`provider_id = "openai"`, `api_key_wo = terraform_data.source.output`, `api_key_wo_version = 1`},
		"name":                  {`provider_id = "openai"`, `api_key = "` + secretA + `"`, `name = terraform_data.source.output`},
		"version":               {`provider_id = "openai"`, `api_key_wo = "` + secretA + `"`, `api_key_wo_version = terraform_data.source.output == "x" ? 1 : 2`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			source := func(value string) string {
				return "resource \"terraform_data\" \"source\" {\n  input = \"" + value + "\"\n}\n" + key(s, arguments...)
			}
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: factories(),
				CheckDestroy:             destroyed(t, s),
				Steps: []resource.TestStep{
					{Config: source(secretA), ConfigPlanChecks: isCreate},
					{Config: source(secretB)},
				},
			})
		})
	}
}

func TestAccKeyInvalid(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for title, tc := range map[string]struct {
		arguments []string
		want      string
	}{
		"no secret":            {[]string{`provider_id = "openai"`}, `A new key needs its secret`},
		"both secrets":         {[]string{`provider_id = "openai"`, `api_key = "aaaaaaaaa"`, `api_key_wo = "bbbbbbbbb"`}, `Attribute "api_key_wo" cannot be specified when "api_key" is specified`},
		"version with api_key": {[]string{`provider_id = "openai"`, `api_key = "aaaaaaaaa"`, `api_key_wo_version = 1`}, `Attribute "api_key_wo_version" cannot be specified when "api_key" is\s+specified`},
		"version 0":            {[]string{`provider_id = "openai"`, `api_key_wo = "aaaaaaaaa"`, `api_key_wo_version = 0`}, `value must be at least 1`},
		"empty secret":         {[]string{`provider_id = "openai"`, `api_key_wo = ""`}, `The API key is empty`},
		"malformed ID":         {[]string{`provider_id = "OpenAI"`, `api_key_wo = "aaaaaaaaa"`}, `Did you mean\s+"openai"\?`},
		"long name":            {[]string{`provider_id = "openai"`, `api_key_wo = "aaaaaaaaa"`, `name = "` + strings.Repeat("n", 121) + `"`}, `The name has 121 characters`},
		"remote change":        {[]string{`provider_id = "openai"`, `api_key_wo = "aaaaaaaaa"`, `on_remote_change = "ignore"`}, `value must be one of: \["repair"\s+"warn"\]`},
		"timeout":              {[]string{`provider_id = "openai"`, `api_key_wo = "aaaaaaaaa"`, "timeouts {\n create = \"0s\"\n }"}, `is\s+not\s+a\s+duration\s+above\s+zero`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: factories(),
				Steps:                    []resource.TestStep{{Config: key(s, tc.arguments...), PlanOnly: true, ExpectError: regexp.MustCompile(tc.want)}},
			})
		})
	}
	t.Run("no workspace", func(t *testing.T) {
		t.Parallel()
		config := fmt.Sprintf("provider \"byok\" {\n  endpoint = %q\n  session_token = %q\n}\nresource \"byok_key\" \"test\" {\n  provider_id = \"openai\"\n  api_key_wo = %q\n}", s.URL, s.SessionToken, secretA)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: factories(),
			Steps:                    []resource.TestStep{{Config: config, PlanOnly: true, ExpectError: regexp.MustCompile(`Missing workspace_id`)}},
		})
	})
}
