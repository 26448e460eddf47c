package byok

import (
	"regexp"
	"slices"
	"sync"
)

// providerIDs are the provider IDs that the API accepts, in the order in which
// it lists them in a validation error. WIRE.md section 5.
var providerIDs = []string{
	"openai", "anthropic", "google", "mistral", "zai", "kimi", "xai", "fireworks", "together",
	"baseten", "ollama-cloud", "falai", "firecrawl", "exa", "context_dev", "serper", "linkup",
	"perplexity", "jina", "google_cloud", "parallel_ai", "brandfetch", "cohere", "hunter",
	"peopledatalabs", "findymail", "prospeo", "wiza", "zerobounce", "neverbounce",
	"millionverifier", "datagma", "dropcontact", "leadmagic", "icypeas", "enrow",
}

// providerIDForm is the form of every provider ID there has been: servers grow
// new IDs, but all of them are short lower-case words.
var providerIDForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)
})

// ProviderIDs returns the known provider IDs in the order of the API.
func ProviderIDs() []string { return slices.Clone(providerIDs) }

// IsKnownProviderID reports whether id is one that the API accepts today.
func IsKnownProviderID(id string) bool { return slices.Contains(providerIDs, id) }

// IsProviderIDForm reports whether id could be a provider ID: 1 to 64
// lower-case letters, digits, underscores and hyphens, with a letter or digit
// at both ends.
func IsProviderIDForm(id string) bool { return providerIDForm().MatchString(id) }

// NearestProviderID returns the known provider ID with the smallest edit
// distance to id, or "" when none is close enough to be a likely misspelling.
func NearestProviderID(id string) string {
	nearest, best := "", max(2, len(id)/3)+1
	for _, known := range providerIDs {
		if d := editDistance(id, known); d < best {
			nearest, best = known, d
		}
	}
	return nearest
}

// editDistance is the Levenshtein distance in bytes; provider IDs are ASCII.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
