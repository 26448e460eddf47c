package provider

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// stringCheck is a validator of a known string. Its findings are sentences
// that never hold the value, unless the value is no secret.
type stringCheck struct {
	describes string
	check     func(value string) (summary, problem, warning string)
}

func (c stringCheck) Description(context.Context) string         { return c.describes }
func (c stringCheck) MarkdownDescription(context.Context) string { return c.describes }

func (c stringCheck) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	summary, problem, warning := c.check(req.ConfigValue.ValueString())
	if problem != "" {
		resp.Diagnostics.AddAttributeError(req.Path, summary, inElement(req.Path)+problem)
	}
	if warning != "" {
		resp.Diagnostics.AddAttributeWarning(req.Path, summary, inElement(req.Path)+warning)
	}
}

// inElement names the element of a map that an attribute belongs to, which
// Terraform's own text does not: it quotes the beginning of the resource.
func inElement(at path.Path) string {
	for _, step := range at.Steps() {
		if key, ok := step.(path.PathStepElementKeyString); ok {
			return fmt.Sprintf("The key %q: ", string(key))
		}
	}
	return ""
}

// providerIDCheck accepts unknown provider IDs: newer servers may have more.
var providerIDCheck = stringCheck{
	describes: "a provider ID: lower-case letters, digits, underscores and hyphens",
	check: func(id string) (summary, problem, warning string) {
		if byok.IsKnownProviderID(id) {
			return "", "", ""
		}
		nearest := nearestProviderID(id)
		if !byok.IsProviderIDForm(id) {
			return "Invalid provider ID", fmt.Sprintf("%s is not a provider ID: 1 to 64 lower-case letters, digits, underscores and hyphens, with a letter or digit at both ends.%s", shown(id), nearest), ""
		}
		return "Unknown provider ID", "", fmt.Sprintf("%s is not a provider ID that this version of the provider recognizes.%s It is sent unchanged. A server that does not recognize it stores no keys for it.", shown(id), nearest)
	},
}

// nearestProviderID suggests the known provider ID that looks most like id. It
// is empty if none does.
func nearestProviderID(id string) string {
	if known := byok.NearestProviderID(strings.ToLower(strings.TrimSpace(id))); known != "" && known != id {
		return fmt.Sprintf(" Did you mean %q?", known)
	}
	return ""
}

// nameCheck holds the API's rules for a name at plan. WIRE.md section 5.
var nameCheck = stringCheck{
	describes: fmt.Sprintf("at most %d UTF-16 units after trimming", byok.MaxNameLength),
	check: func(name string) (summary, problem, warning string) {
		if strings.ContainsRune(name, 0) {
			return "Invalid name", "A name cannot contain a NUL character (U+0000).", ""
		}
		if n := byok.NameLength(byok.TrimName(name)); n > byok.MaxNameLength {
			return "Invalid name", fmt.Sprintf("The name has %d characters, at most %d are allowed. Leading and trailing whitespace is ignored; a character outside the Basic Multilingual Plane, such as an emoji, counts as two.", n, byok.MaxNameLength), ""
		}
		if name != "" && byok.TrimName(name) == "" {
			return "Blank name", "", "The name is nothing but whitespace: the key is stored without a name. Write a name, or set name = \"\" if it is to have none."
		}
		return "", "", ""
	},
}

// apiKeyCheck refuses what the API refuses, and warns of what is stored as it
// is but hardly meant: the API does not trim. WIRE.md section 5.
var apiKeyCheck = stringCheck{
	describes: "not empty, without NUL characters",
	check: func(apiKey string) (summary, problem, warning string) {
		switch {
		case apiKey == "":
			return "Invalid API key", "The API key is empty. To leave it out, use null.", ""
		case strings.ContainsRune(apiKey, 0):
			return "Invalid API key", "An API key cannot contain a NUL character (U+0000).", ""
		case strings.TrimFunc(apiKey, isBlank) == "":
			return "Blank API key", "", "The API key is nothing but whitespace. It is stored unchanged."
		case strings.TrimFunc(apiKey, isBlank) != apiKey:
			return "Whitespace around API key", "", "The API key begins or ends with whitespace, such as the newline at the end of a file. It is stored unchanged, and AI providers refuse such keys. " +
				"Unless this is intended, wrap the value in trimspace()."
		}
		return "", "", ""
	},
}

// maxShown is longer than what belongs where shown is used.
const maxShown = 20

// shown quotes a value that is no secret, unless it is so long that it may be
// one that got into the wrong attribute.
func shown(value string) string {
	if n := utf8.RuneCountInString(value); n > maxShown {
		return fmt.Sprintf("The value of %d characters", n)
	}
	return strconv.Quote(value)
}

func isBlank(r rune) bool { return unicode.IsSpace(r) || byok.IsECMAScriptSpace(r) }

// newIDCheck is for the ID of a noun, which takes this article.
func newIDCheck(article, noun, whereID string) stringCheck {
	return stringCheck{
		describes: article + " " + noun + " ID: not empty, without slashes and whitespace",
		check: func(id string) (summary, problem, warning string) {
			if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r == '/' || isBlank(r) || unicode.IsControl(r) }) {
				return "Invalid " + noun + " ID", fmt.Sprintf("%q is not %s %s ID: it is empty, or contains slashes, whitespace or control characters. %s", id, article, noun, whereID), ""
			}
			return "", "", ""
		},
	}
}

// timeoutsBlock is the block of package timeouts without its validators:
// keyModel.durations has the same check, and wants durations above zero.
func timeoutsBlock(ctx context.Context, opts timeouts.Opts) schema.Block {
	block, ok := timeouts.Block(ctx, opts).(schema.SingleNestedBlock)
	for name, attribute := range block.Attributes {
		if text, isText := attribute.(schema.StringAttribute); isText && ok {
			text.Validators = nil
			block.Attributes[name] = text
		}
	}
	return block
}
