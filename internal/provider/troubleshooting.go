package provider

import (
	"context"
	"regexp"
	"strings"
	"sync"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
)

const (
	troubleshootingPage = "https://registry.terraform.io/providers/terraform-provider-byok/byok/latest/docs/guides/troubleshooting"
	// headingGap stands for what differs from case to case.
	headingGap = "…"
	// failedRequest is the heading of a failed request that has none of its own.
	failedRequest = "Cannot … key"
)

// TroubleshootingHeadings are the headings of the troubleshooting guide, which
// are the summaries of the provider's diagnostics. For "Cannot create key:
// TITLE" it is the title. internal/doctest compares them with the guide and
// with the code.
func TroubleshootingHeadings() []string {
	return []string{
		"Cannot connect to Sim",
		failedRequest,
		"not signed in",
		"not signed in, or no access to the workspace",
		"the sign-in was refused",
		"not an admin of the workspace",
		"no access to the workspace",
		"no access to the organization",
		"not a member of the organization",
		"not an admin of the organization",
		"the organization has no paid subscription",
		"the server has no keys of organizations",
		"the server cannot list this",
		"No workspace with this name",
		"Several workspaces with this name",
		"workspace not found",
		"the key does not exist",
		"it has another provider ID",
		"the API refused the request",
		"too many requests",
		"the server failed",
		"the server cannot be reached",
		"the certificate of the server is not trusted",
		"this is not the API of Sim",
		"the endpoint redirects",
		"it is not known whether it was stored",
		"interrupted",
		"timed out",
		"request failed",

		"Missing …",
		"Invalid …",
		"Contradictory provider configuration",
		"Invalid provider configuration",
		"Provider configuration not known",
		"Default workspace not known",
		"Unencrypted endpoint",
		"Incomplete session token",

		"Invalid provider ID",
		"Unknown provider ID",
		"Invalid … ID",
		"Invalid name",
		"Blank name",
		"Invalid API key",
		"Blank API key",
		"Whitespace around API key",
		"Missing API key",
		"A rename needs the API key",
		"A new version needs the API key",
		"Invalid timeout",
		"Not a whole number",
		"Null element",

		"Key changed outside of Terraform",
		"Key deleted outside of Terraform",
		"Key cannot be decrypted by the server",
		"Earlier upload not confirmed",
		"Key created, but its details could not be read",
		"Private state cannot be written",

		"Invalid import ID",
		"Invalid identity",
		"Missing workspace ID",

		"Missing workspace_ids",
		"Results end at the limit",

		`Pool "…" would hold …, its cap is …`,
		`Pool "…" is full, its cap is …`,
		"… creates wait for removals of the same apply",

		"A key like this is already stored",
		"The organization's keys step aside",
		"The last key of a pool is removed",
		"A self-hosted Sim does not use this key in workflows",

		`Exclusive pool "…" has keys in another resource`,
		`Pool "…" has keys that two resources manage`,
		"exclusive is not known at plan",
		"keys is not known at plan",
		"Exclusive pool holds other keys",
		"Imported keys are removed",
		"Keys added since the plan",
		"Keys changed since the plan",
		"The pool was not created",
		"The pool was created in part",
		"it is empty",
		"Empty pool",
		"Invalid map key",
	}
}

type headingPattern struct {
	heading string
	summary *regexp.Regexp
}

// headings are those without a gap, and the patterns of the others.
var headings = sync.OnceValues(func() (map[string]bool, []headingPattern) {
	whole, patterns := map[string]bool{}, []headingPattern(nil)
	// What differs is quoted, a number or the name of an attribute. Capitals
	// tell the framework's own summaries, as in "Invalid Attribute Value".
	gaps := strings.NewReplacer(`"`+headingGap+`"`, `".*"`, headingGap, `[^A-Z]+`)
	for _, heading := range TroubleshootingHeadings() {
		if strings.Contains(heading, headingGap) {
			patterns = append(patterns, headingPattern{heading, regexp.MustCompile(`^` + gaps.Replace(regexp.QuoteMeta(heading)) + `$`)})
		} else {
			whole[heading] = true
		}
	}
	return whole, patterns
})

// troubleshootingHeading returns the heading of a summary, or "" for one that
// is not the provider's own.
func troubleshootingHeading(summary string) string {
	whole, patterns := headings()
	if heading, _, _ := strings.Cut(summary, ": "); whole[heading] { // function about
		return heading
	}
	// The longest rest of "Cannot create key: TITLE" that is a heading.
	for rest, more := summary, true; more; _, rest, more = strings.Cut(rest, ": ") {
		if whole[rest] {
			return rest
		}
		for _, pattern := range patterns {
			if pattern.summary.MatchString(rest) {
				return pattern.heading
			}
		}
	}
	if strings.HasPrefix(summary, "Cannot ") {
		return failedRequest // of keys, workspaces and so on
	}
	return ""
}

// TroubleshootingAnchor is the anchor of a heading: its words, without what
// differs.
func TroubleshootingAnchor(heading string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9_]+`).ReplaceAllString(strings.ToLower(heading), "-"), "-")
}

// TroubleshootingURL is where the guide explains a summary, or "" for one that
// is not the provider's own.
func TroubleshootingURL(summary string) string {
	heading := troubleshootingHeading(summary)
	if heading == "" {
		return ""
	}
	return troubleshootingPage + "#" + TroubleshootingAnchor(heading)
}

// presentingServer adds the address of its explanation to each diagnostic of the
// provider, and points it at what Terraform can show.
type presentingServer struct{ fastpath.Framework }

func present(diags []*tfprotov6.Diagnostic) {
	for _, d := range diags {
		if url := TroubleshootingURL(d.Summary); url != "" {
			d.Detail = strings.TrimRight(d.Detail, "\n") + "\n\nMore: " + url
		}
		// Terraform finds the line of an attribute, and of an element of a map. Of an
		// attribute of an element it shows the line where the resource begins.
		if steps := d.Attribute.Steps(); len(steps) > 2 {
			if _, isElement := steps[1].(tftypes.ElementKeyString); isElement {
				d.Attribute = tftypes.NewAttributePathWithSteps(steps[:2])
			}
		}
	}
}

func (s presentingServer) ValidateProviderConfig(ctx context.Context, req *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	resp, err := s.Framework.ValidateProviderConfig(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ConfigureProvider(ctx context.Context, req *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	resp, err := s.Framework.ConfigureProvider(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	resp, err := s.Framework.ValidateResourceConfig(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	resp, err := s.Framework.UpgradeResourceState(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) UpgradeResourceIdentity(ctx context.Context, req *tfprotov6.UpgradeResourceIdentityRequest) (*tfprotov6.UpgradeResourceIdentityResponse, error) {
	resp, err := s.Framework.UpgradeResourceIdentity(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	resp, err := s.Framework.ReadResource(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	resp, err := s.Framework.PlanResourceChange(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	resp, err := s.Framework.ApplyResourceChange(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ImportResourceState(ctx context.Context, req *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	resp, err := s.Framework.ImportResourceState(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) MoveResourceState(ctx context.Context, req *tfprotov6.MoveResourceStateRequest) (*tfprotov6.MoveResourceStateResponse, error) {
	resp, err := s.Framework.MoveResourceState(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ValidateDataResourceConfig(ctx context.Context, req *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	resp, err := s.Framework.ValidateDataResourceConfig(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ReadDataSource(ctx context.Context, req *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	resp, err := s.Framework.ReadDataSource(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ValidateListResourceConfig(ctx context.Context, req *tfprotov6.ValidateListResourceConfigRequest) (*tfprotov6.ValidateListResourceConfigResponse, error) {
	resp, err := s.Framework.ValidateListResourceConfig(ctx, req)
	if resp != nil {
		present(resp.Diagnostics)
	}
	return resp, err
}

func (s presentingServer) ListResource(ctx context.Context, req *tfprotov6.ListResourceRequest) (*tfprotov6.ListResourceServerStream, error) {
	stream, err := s.Framework.ListResource(ctx, req)
	if stream == nil || stream.Results == nil {
		return stream, err
	}
	results := stream.Results
	return &tfprotov6.ListResourceServerStream{Results: func(yield func(tfprotov6.ListResourceResult) bool) {
		for result := range results {
			present(result.Diagnostics)
			if !yield(result) {
				return
			}
		}
	}}, err
}
