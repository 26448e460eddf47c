package settings

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// showTerraform is the configuration that declares what is stored: import
// blocks and resources, without a secret. ?style=key writes one resource per
// key, anything else one per pool.
func (p *Pages) showTerraform(w http.ResponseWriter, r *http.Request) {
	user, _, err := p.api.Session(r)
	var v visit
	if err == nil {
		note(w, user.ID, nil)
		v, err = p.visit(r, user)
	}
	var keys []api.KeyView
	if err == nil {
		keys, err = p.api.Keys(r.Context(), v.owner)
	}
	if err != nil {
		p.writeJSON(w, r, user.ID, nil, err)
		return
	}
	text := poolConfiguration(v.owner, keys)
	if r.URL.Query().Get("style") == "key" {
		text = keyConfiguration(v.owner, keys)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	write(w, r, http.StatusOK, []byte(text), nil)
}

// poolConfiguration declares each pool as one byok_pool.
func poolConfiguration(owner keystore.Owner, keys []api.KeyView) string {
	var out strings.Builder
	for pool := range pools(keys) {
		id := pool[0].ProviderID
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "import {\n  to = byok_pool.%s\n  id = %s\n}\n\n", id, quote(importPrefix(owner)+id))
		fmt.Fprintf(&out, "resource \"byok_pool\" \"%s\" {\n%s\n  keys = {\n", id, aligned([]argument{ownerArgument(owner), {"provider_id", quote(id)}}))
		labels := elementKeys(pool)
		width := 0
		for _, label := range labels {
			width = max(width, len(label))
		}
		elements, longest := make([]string, len(pool)), 0
		for i, key := range pool {
			name := ""
			if n := keystore.Text(key.Name); n != "" && n != labels[i] {
				name = fmt.Sprintf("name = %s, ", quote(n))
			}
			elements[i] = fmt.Sprintf("    %-*s = { %sapi_key_wo = var.%s[%s] }", width, labels[i], name, secretsVariable(id), quote(labels[i]))
			longest = max(longest, utf8.RuneCountInString(elements[i]))
		}
		for i, key := range pool {
			out.WriteString(elements[i] + strings.Repeat(" ", longest-utf8.RuneCountInString(elements[i])) + comment(key) + "\n")
		}
		out.WriteString("  }\n}\n\n")
		writeVariable(&out, id, "element of keys")
	}
	return complete(out.String())
}

// keyConfiguration declares each key as one byok_key.
func keyConfiguration(owner keystore.Owner, keys []api.KeyView) string {
	var out strings.Builder
	for pool := range pools(keys) {
		id := pool[0].ProviderID
		for i, label := range elementKeys(pool) {
			key := pool[i]
			if out.Len() > 0 {
				out.WriteString("\n")
			}
			to := "byok_key." + id + "_" + label
			fmt.Fprintf(&out, "import {\n  to = %s\n  id = %s\n}\n\n", to, quote(importPrefix(owner)+id+"/"+key.ID))
			arguments := []argument{ownerArgument(owner), {"provider_id", quote(id)}}
			if name := keystore.Text(key.Name); name != "" {
				arguments = append(arguments, argument{"name", quote(name)})
			}
			arguments = append(arguments, argument{"api_key_wo", fmt.Sprintf("var.%s[%s]", secretsVariable(id), quote(label)) + comment(key)})
			fmt.Fprintf(&out, "resource \"byok_key\" \"%s_%s\" {\n%s}\n", id, label, aligned(arguments))
		}
		out.WriteString("\n")
		writeVariable(&out, id, "resource")
	}
	return complete(out.String())
}

// importPrefix is what the import IDs of an owner's keys begin with.
func importPrefix(owner keystore.Owner) string {
	if owner.Scope == keystore.Organization {
		return "organization/" + owner.ID + "/"
	}
	return owner.ID + "/"
}

// ownerArgument is workspace_id or organization_id.
func ownerArgument(owner keystore.Owner) argument {
	return argument{string(owner.Scope) + "_id", quote(owner.ID)}
}

// argument is an argument of a resource; its value is HCL.
type argument struct{ name, value string }

// aligned writes arguments as terraform fmt does.
func aligned(arguments []argument) string {
	var out strings.Builder
	width := 0
	for _, a := range arguments {
		width = max(width, len(a.name))
	}
	for _, a := range arguments {
		fmt.Fprintf(&out, "  %-*s = %s\n", width, a.name, a.value)
	}
	return out.String()
}

func writeVariable(out *strings.Builder, providerID, by string) {
	fmt.Fprintf(out, "variable \"%s\" {\n  description = \"The %s API keys, one per %s.\"\n  type        = map(string)\n  sensitive   = true\n  ephemeral   = true\n}\n",
		secretsVariable(providerID), providerID, by)
}

// secretsVariable has no hyphen: a shell cannot export TF_VAR_ and such a name.
func secretsVariable(providerID string) string {
	return strings.ReplaceAll(providerID, "-", "_") + "_api_keys"
}

// comment tells which secret belongs to a key, by its mask.
func comment(key api.KeyView) string { return " # " + quote(key.Masked) }

// needsProvider begins the text: without the source, terraform init looks for a
// provider of HashiCorp's.
const needsProvider = `# The terraform block of this configuration needs:
# required_providers { byok = { source = "terraform-provider-byok/byok" } }

`

// complete is the text to copy: the configuration below what it needs.
func complete(configuration string) string {
	if configuration == "" {
		return "# No keys are stored.\n"
	}
	return needsProvider + configuration
}

// pools yields the keys of one provider ID after the other.
func pools(keys []api.KeyView) func(yield func([]api.KeyView) bool) {
	return func(yield func([]api.KeyView) bool) {
		for len(keys) > 0 {
			end := slices.IndexFunc(keys, func(k api.KeyView) bool { return k.ProviderID != keys[0].ProviderID })
			if end < 0 {
				end = len(keys)
			}
			if !yield(keys[:end]) {
				return
			}
			keys = keys[end:]
		}
	}
}

// identifier is what HCL writes as a map key without quotes.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// elementKeys returns the map key of each key of a pool, as an import of
// byok_pool chooses it: its name where that is unique and an identifier, else
// its ID where that is one, else key_ and the ID.
func elementKeys(pool []api.KeyView) []string {
	named := map[string]int{}
	for _, key := range pool {
		named[keystore.Text(key.Name)]++
	}
	labels := make([]string, len(pool))
	for i, key := range pool {
		switch name := keystore.Text(key.Name); {
		case named[name] == 1 && identifier.MatchString(name):
			labels[i] = name
		case identifier.MatchString(key.ID):
			labels[i] = key.ID
		default:
			labels[i] = "key_" + key.ID
		}
	}
	return labels
}

// quote writes a string as HCL does.
func quote(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for i, r := range text {
		switch {
		case r == '"' || r == '\\':
			out.WriteString(`\` + string(r))
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case (r == '$' || r == '%') && strings.HasPrefix(text[i+1:], "{"):
			out.WriteString(string(r) + string(r))
		case r < ' ' || r == 0x7f || (r >= 0x2028 && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) || r == 0x200e || r == 0x200f:
			// Invisible, or changes the direction of what follows.
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String() + `"`
}
