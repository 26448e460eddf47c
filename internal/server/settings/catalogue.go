package settings

import "strings"

// section is a group of providers on the page.
type section struct {
	ID, Title string
	Providers []provider
}

// provider is how the page shows a provider ID.
type provider struct {
	ID, Name, Use string
	// Placeholder shows how the provider's keys begin, where that is known.
	Placeholder string
	// Mark is one or two letters in place of a logo.
	Mark string
	// Unknown is a provider ID that has keys, but that the API refuses.
	Unknown bool
}

// matches reports whether a search finds the provider: in its name or in what
// it is used for, in either case.
func (p provider) matches(search string) bool {
	search = strings.ToLower(strings.TrimSpace(search))
	return strings.Contains(strings.ToLower(p.Name), search) || strings.Contains(strings.ToLower(p.Use), search)
}

// unknown is the section of provider IDs that are stored but not in the
// catalogue, as in a database that a newer Sim has written.
func unknown(ids []string) section {
	s := section{ID: "other", Title: "Other"}
	for _, id := range ids {
		mark := strings.ToUpper(string([]rune(id)[:1]))
		s.Providers = append(s.Providers, provider{ID: id, Name: id, Mark: mark, Use: "Not a provider ID of this server", Unknown: true})
	}
	return s
}

// catalogue returns the sections and their providers in the order of the page.
func catalogue() []section {
	return []section{
		{ID: "models", Title: "Models", Providers: []provider{
			{ID: "openai", Name: "OpenAI", Mark: "Oa", Placeholder: "sk-...", Use: "GPT models, embeddings, speech and images"},
			{ID: "anthropic", Name: "Anthropic", Mark: "An", Placeholder: "sk-ant-...", Use: "Claude models"},
			{ID: "google", Name: "Google", Mark: "Go", Use: "Gemini models"},
			{ID: "mistral", Name: "Mistral", Mark: "Mi", Use: "Mistral models and document parsing"},
			{ID: "zai", Name: "Z.ai", Mark: "Z", Use: "GLM models"},
			{ID: "cohere", Name: "Cohere", Mark: "Co", Use: "Reranking and embeddings"},
			{ID: "xai", Name: "xAI", Mark: "xA", Placeholder: "xai-...", Use: "Grok models"},
			{ID: "kimi", Name: "Kimi", Mark: "Ki", Placeholder: "sk-...", Use: "Moonshot’s Kimi models"},
			{ID: "fireworks", Name: "Fireworks", Mark: "Fi", Use: "Open models, hosted by Fireworks"},
			{ID: "together", Name: "Together AI", Mark: "To", Use: "Open models, hosted by Together"},
			{ID: "baseten", Name: "Baseten", Mark: "Ba", Use: "Models deployed on Baseten"},
			{ID: "ollama-cloud", Name: "Ollama Cloud", Mark: "Ol", Use: "Open models, hosted by Ollama"},
			{ID: "falai", Name: "fal.ai", Mark: "fa", Use: "Image, video and audio generation"},
		}},
		{ID: "search", Title: "Search & web", Providers: []provider{
			{ID: "firecrawl", Name: "Firecrawl", Mark: "Fc", Use: "Crawling and scraping websites"},
			{ID: "exa", Name: "Exa", Mark: "Ex", Use: "Web search by meaning"},
			{ID: "context_dev", Name: "Context.dev", Mark: "Cd", Use: "Website content and brand data"},
			{ID: "serper", Name: "Serper", Mark: "Se", Use: "Google search results"},
			{ID: "linkup", Name: "Linkup", Mark: "Li", Use: "Web search with sources"},
			{ID: "parallel_ai", Name: "Parallel AI", Mark: "Pa", Use: "Web research and extraction"},
			{ID: "perplexity", Name: "Perplexity", Mark: "Px", Placeholder: "pplx-...", Use: "Web search with written results"},
			{ID: "jina", Name: "Jina AI", Mark: "Ji", Placeholder: "jina_...", Use: "Reading and searching web pages"},
			{ID: "google_cloud", Name: "Google Cloud", Mark: "GC", Use: "Maps, translation and PageSpeed"},
		}},
		{ID: "enrichment", Title: "Enrichment", Providers: []provider{
			{ID: "brandfetch", Name: "Brandfetch", Mark: "Br", Use: "Logos and brand data of companies"},
			{ID: "hunter", Name: "Hunter", Mark: "Hu", Use: "Finding and verifying email addresses"},
			{ID: "peopledatalabs", Name: "People Data Labs", Mark: "PD", Use: "Data on people and companies"},
			{ID: "findymail", Name: "Findymail", Mark: "Fm", Use: "Finding verified email addresses"},
			{ID: "prospeo", Name: "Prospeo", Mark: "Pr", Use: "Email addresses and phone numbers"},
			{ID: "wiza", Name: "Wiza", Mark: "Wi", Use: "Contact data of prospects"},
			{ID: "datagma", Name: "Datagma", Mark: "Da", Use: "Data on people and companies"},
			{ID: "dropcontact", Name: "Dropcontact", Mark: "Dc", Use: "Contact data for B2B"},
			{ID: "leadmagic", Name: "LeadMagic", Mark: "Le", Use: "Contact and company data"},
			{ID: "icypeas", Name: "Icypeas", Mark: "Ic", Use: "Finding and verifying email addresses"},
			{ID: "enrow", Name: "Enrow", Mark: "En", Use: "Finding and verifying email addresses"},
			{ID: "zerobounce", Name: "ZeroBounce", Mark: "Zb", Use: "Verifying email addresses"},
			{ID: "neverbounce", Name: "NeverBounce", Mark: "Nb", Use: "Verifying email addresses"},
			{ID: "millionverifier", Name: "MillionVerifier", Mark: "Mv", Use: "Verifying email addresses"},
		}},
	}
}
