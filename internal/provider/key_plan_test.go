package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

const (
	secretA = "sk-test-AAAAAAAAAAAAaaaa"
	secretB = "sk-test-BBBBBBBBBBBBbbbb"
	written = "2026-01-02T03:04:05.000Z"
	moved   = "2026-01-02T09:09:09.000Z"
)

// stored is a state as a refresh leaves it, of a key whose stored secret is
// secret. change adapts it.
func stored(secret string, change ...func(*keyModel)) keyModel {
	m := keyModel{
		WorkspaceID: types.StringValue("ws"), ProviderID: types.StringValue("openai"), Name: types.StringValue("prod"),
		APIKey: types.StringNull(), APIKeyWO: types.StringNull(), APIKeyWOVersion: types.Int64Null(),
		OnRemoteChange: types.StringValue(onRemoteChangeRepair),
		ID:             types.StringValue("key-1"), MaskedKey: types.StringValue(byok.Mask(secret)),
		CreatedBy: types.StringValue("user"), CreatedAt: types.StringValue(written), UpdatedAt: types.StringValue(written),
	}
	return with(m, change...)
}

// configured is a configuration of the same key, without a secret.
func configured(change ...func(*keyModel)) keyModel {
	return with(keyModel{
		ProviderID: types.StringValue("openai"), Name: types.StringValue("prod"),
		OnRemoteChange: types.StringNull(),
	}, change...)
}

func with(m keyModel, change ...func(*keyModel)) keyModel {
	for _, c := range change {
		c(&m)
	}
	return m
}

func apiKey(v string) func(*keyModel) { return func(m *keyModel) { m.APIKey = types.StringValue(v) } }
func apiKeyWO(v string) func(*keyModel) {
	return func(m *keyModel) { m.APIKeyWO = types.StringValue(v) }
}
func version(v int64) func(*keyModel) {
	return func(m *keyModel) { m.APIKeyWOVersion = types.Int64Value(v) }
}
func name(v string) func(*keyModel) { return func(m *keyModel) { m.Name = types.StringValue(v) } }
func noName(m *keyModel)            { m.Name = types.StringNull() }
func updated(at string) func(*keyModel) {
	return func(m *keyModel) { m.UpdatedAt = types.StringValue(at) }
}
func masked(mask string) func(*keyModel) {
	return func(m *keyModel) { m.MaskedKey = types.StringValue(mask) }
}
func workspace(id string) func(*keyModel) {
	return func(m *keyModel) { m.WorkspaceID = types.StringValue(id) }
}
func unknownKey(m *keyModel)   { m.APIKey = types.StringUnknown() }
func unknownKeyWO(m *keyModel) { m.APIKeyWO = types.StringUnknown() }
func warnOnly(m *keyModel)     { m.OnRemoteChange = types.StringValue(onRemoteChangeWarn) }

// recordOf is the record of a write of secret by a configuration.
func recordOf(secret string, config keyModel) keyRecord {
	return writtenRecord(byok.Key{ID: "key-1", MaskedKey: byok.Mask(secret), UpdatedAt: written}).declared(config)
}

func adopted(secret string) keyRecord {
	return adoptedRecord(byok.Key{ID: "key-1", MaskedKey: byok.Mask(secret), UpdatedAt: written})
}

// propose does what Terraform does: configuration, with the state's value for
// computed attributes that are not configured and the schema's default.
func propose(config, prior keyModel) keyModel {
	p := prior
	p.ProviderID, p.Name, p.APIKeyWOVersion, p.APIKeyWO = config.ProviderID, config.Name, config.APIKeyWOVersion, types.StringNull()
	if !config.WorkspaceID.IsNull() {
		p.WorkspaceID = config.WorkspaceID
	}
	if !config.APIKey.IsNull() {
		p.APIKey = config.APIKey
	}
	p.OnRemoteChange = types.StringValue(onRemoteChangeRepair)
	if !config.OnRemoteChange.IsNull() {
		p.OnRemoteChange = config.OnRemoteChange
	}
	return p
}

func TestPlanUpdate(t *testing.T) {
	t.Parallel()
	const (
		nothing  = "nothing"
		replaces = "replaces"
		uploads  = "uploads"     // a request
		state    = "state"       // only state changes, and the plan says so
		stateOpn = "state, open" // only state changes, but the plan leaves open what a write-only value decides
	)
	inState := recordOf(secretA, configured(apiKey(secretA)))
	noticed := recordOf(secretA, configured(apiKeyWO(secretA)))
	versioned := recordOf(secretA, configured(apiKeyWO(secretA), version(1)))
	renamed := versioned
	elsewhere := "theirs"
	renamed.RenamedTo = &elsewhere
	unconfirmed := inState
	unconfirmed.Unconfirmed = true

	for title, tc := range map[string]struct {
		config, prior keyModel
		record        keyRecord
		want          string
	}{
		"api_key unchanged":                 {configured(apiKey(secretA)), stored(secretA, apiKey(secretA)), inState, nothing},
		"api_key changed":                   {configured(apiKey(secretB)), stored(secretA, apiKey(secretA)), inState, uploads},
		"api_key unknown":                   {configured(unknownKey), stored(secretA, apiKey(secretA)), inState, uploads},
		"api_key removed":                   {configured(), stored(secretA, apiKey(secretA)), inState, nothing},
		"api_key unconfirmed":               {configured(apiKey(secretA)), stored(secretA, apiKey(secretA)), unconfirmed, uploads},
		"unconfirmed, warn":                 {configured(apiKey(secretA), warnOnly), stored(secretB, apiKey(secretA), warnOnly, updated(moved)), unconfirmed, uploads},
		"unconfirmed, version unchanged":    {configured(apiKeyWO(secretA), version(1)), stored(secretB, version(1), updated(moved)), unconfirmed, uploads},
		"unconfirmed, value unknown":        {configured(unknownKeyWO, version(1)), stored(secretA, version(1)), unconfirmed, uploads},
		"unconfirmed, write-only unchanged": {configured(apiKeyWO(secretA)), stored(secretB, updated(moved)), unconfirmed, uploads},
		"unconfirmed, no secret":            {configured(), stored(secretB, updated(moved)), unconfirmed, nothing},
		"write-only unchanged":              {configured(apiKeyWO(secretA)), stored(secretA), noticed, nothing},
		"write-only changed":                {configured(apiKeyWO(secretB)), stored(secretA), noticed, uploads},
		"write-only changed, same mask":     {configured(apiKeyWO("sk-testXXXXXaaaa")), stored("sk-testYYYYYaaaa"), noticed, uploads},
		"write-only unknown":                {configured(unknownKeyWO), stored(secretA), noticed, uploads},
		"write-only removed":                {configured(), stored(secretA), noticed, nothing},
		"version unchanged, value differs":  {configured(apiKeyWO(secretB), version(1)), stored(secretA, version(1)), versioned, nothing},
		"version unchanged, value unknown":  {configured(unknownKeyWO, version(1)), stored(secretA, version(1)), versioned, nothing},
		"version changed":                   {configured(apiKeyWO(secretA), version(2)), stored(secretA, version(1)), versioned, uploads},
		"version changed, value unknown":    {configured(unknownKeyWO, version(2)), stored(secretA, version(1)), versioned, uploads},
		"version set":                       {configured(apiKeyWO(secretA), version(1)), stored(secretA), noticed, uploads},
		"version unset":                     {configured(apiKeyWO(secretA)), stored(secretA, version(1)), versioned, uploads},
		"version kept, secret removed":      {configured(version(1)), stored(secretA, version(1)), versioned, nothing},
		"both removed":                      {configured(), stored(secretA, version(1)), versioned, state},
		"api_key to write-only":             {configured(apiKeyWO(secretA)), stored(secretA, apiKey(secretA)), inState, uploads},
		"api_key to write-only and version": {configured(apiKeyWO(secretA), version(1)), stored(secretA, apiKey(secretA)), inState, uploads},
		"write-only to api_key":             {configured(apiKey(secretA)), stored(secretA), noticed, uploads},
		"version to api_key":                {configured(apiKey(secretA)), stored(secretA, version(1)), versioned, uploads},

		"adopted, no secret":               {configured(), stored(secretA), adopted(secretA), nothing},
		"adopted, api_key":                 {configured(apiKey(secretA)), stored(secretA), adopted(secretA), state},
		"adopted, other api_key":           {configured(apiKey(secretB)), stored(secretA), adopted(secretA), uploads},
		"adopted, short api_key":           {configured(apiKey("12345678")), stored("12345678"), adopted("12345678"), uploads},
		"adopted, write-only":              {configured(apiKeyWO(secretA)), stored(secretA), adopted(secretA), nothing},
		"adopted, other write-only":        {configured(apiKeyWO(secretB)), stored(secretA), adopted(secretA), uploads},
		"adopted, write-only with version": {configured(apiKeyWO(secretA), version(1)), stored(secretA), adopted(secretA), stateOpn},
		"adopted, other with version":      {configured(apiKeyWO(secretB), version(1)), stored(secretA), adopted(secretA), uploads},
		"record lost, api_key":             {configured(apiKey(secretA)), stored(secretA, apiKey(secretA)), keyRecord{}, nothing},
		"record lost, write-only":          {configured(apiKeyWO(secretA)), stored(secretA), keyRecord{}, nothing},
		"record lost, to write-only":       {configured(apiKeyWO(secretA)), stored(secretA, apiKey(secretA)), keyRecord{}, stateOpn},

		"renamed":                        {configured(apiKeyWO(secretA), name("other")), stored(secretA), noticed, uploads},
		"renamed with version":           {configured(apiKeyWO(secretB), version(1), name("other")), stored(secretA, version(1)), versioned, uploads},
		"name differs in white space":    {configured(apiKeyWO(secretA), name(" prod\n")), stored(secretA), noticed, nothing},
		"name removed":                   {configured(apiKeyWO(secretA), noName), stored(secretA), noticed, uploads},
		"blank name for none":            {configured(apiKey(secretA), name("  ")), stored(secretA, apiKey(secretA), noName), inState, state},
		"none for blank name":            {configured(apiKey(secretA), noName), stored(secretA, apiKey(secretA), name("")), inState, state},
		"name in another normal form":    {configured(apiKey(secretA), name("\u00e9")), stored(secretA, apiKey(secretA), name("e\u0301")), inState, nothing},
		"name taken over from elsewhere": {configured(apiKeyWO(secretA), version(1), warnOnly, name("theirs")), stored(secretA, version(1), warnOnly, updated(moved)), renamed, state},

		"other setting":                     {configured(apiKey(secretA), warnOnly), stored(secretA, apiKey(secretA)), inState, state},
		"other setting, write-only":         {configured(apiKeyWO(secretA), warnOnly), stored(secretA), noticed, stateOpn},
		"other setting, write-only version": {configured(apiKeyWO(secretB), version(1), warnOnly), stored(secretA, version(1)), versioned, state},

		"replaced elsewhere":                {configured(apiKey(secretA)), stored(secretB, apiKey(secretA), updated(moved)), inState, uploads},
		"replaced elsewhere, same mask":     {configured(apiKey(secretA)), stored(secretA, apiKey(secretA), updated(moved)), inState, uploads},
		"replaced elsewhere, same time":     {configured(apiKey(secretA)), stored(secretB, apiKey(secretA)), inState, uploads},
		"replaced elsewhere, write-only":    {configured(apiKeyWO(secretA)), stored(secretB, updated(moved)), noticed, uploads},
		"replaced elsewhere, version":       {configured(apiKeyWO(secretB), version(1)), stored(secretB, version(1), updated(moved)), versioned, uploads},
		"replaced elsewhere, no secret":     {configured(), stored(secretB, updated(moved)), noticed, nothing},
		"replaced elsewhere, warn":          {configured(apiKey(secretA), warnOnly), stored(secretB, apiKey(secretA), warnOnly, updated(moved)), inState, nothing},
		"replaced elsewhere, warn, renames": {configured(apiKey(secretA), warnOnly, name("x")), stored(secretB, apiKey(secretA), warnOnly, updated(moved)), inState, uploads},
		"undecryptable":                     {configured(apiKey(secretA)), stored(secretA, apiKey(secretA), masked(byok.MaskUnknown)), inState, nothing},
		"decryptable again":                 {configured(), stored(secretA), adopted("short"), nothing},

		"workspace of the provider":  {configured(apiKey(secretA)), stored(secretA, apiKey(secretA)), inState, nothing},
		"workspace changed":          {configured(apiKey(secretA), workspace("other")), stored(secretA, apiKey(secretA)), inState, replaces},
		"provider's workspace moved": {configured(apiKey(secretA)), stored(secretA, apiKey(secretA), workspace("old")), inState, replaces},
		"provider ID changed": {with(configured(apiKey(secretA)), func(m *keyModel) { m.ProviderID = types.StringValue("anthropic") }),
			stored(secretA, apiKey(secretA)), inState, replaces},
		"provider ID unknown": {with(configured(apiKey(secretA)), func(m *keyModel) { m.ProviderID = types.StringUnknown() }),
			stored(secretA, apiKey(secretA)), inState, replaces},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			p := planUpdate(tc.config, propose(tc.config, tc.prior), tc.prior, tc.record, types.StringValue("ws"))
			open := p.planned.UpdatedAt.IsUnknown()
			if open != p.planned.MaskedKey.IsUnknown() {
				t.Errorf("updated_at unknown: %v, masked_key unknown: %v; want both or none", open, !open)
			}
			got := nothing
			switch {
			case p.replaces():
				got = replaces
			case p.upload:
				got = uploads
				if !open {
					t.Error("an upload is planned, but updated_at stays known")
				}
			case open:
				got = stateOpn
			case p.changesState(&tc.prior):
				got = state
			}
			if got != tc.want {
				t.Errorf("plan: %s, want %s", got, tc.want)
			}
			if !p.planned.ID.Equal(tc.prior.ID) || !p.planned.CreatedAt.Equal(tc.prior.CreatedAt) || !p.planned.CreatedBy.Equal(tc.prior.CreatedBy) {
				t.Error("id, created_at or created_by changes")
			}
			if !p.planned.APIKeyWO.IsNull() {
				t.Error("the plan holds the write-only value")
			}
			if !tc.config.APIKeyWO.IsNull() && !p.planned.APIKey.IsNull() {
				t.Error("api_key stays in the plan beside api_key_wo")
			}
		})
	}
}

// A plan must not show as known what follows from a write-only value, because an
// ephemeral one can be another at apply: whatever the two values are, what the
// first plan knows is what the second one plans.
func TestPlanUpdateHoldsForAnyValueAtApply(t *testing.T) {
	t.Parallel()
	for _, first := range []string{secretA, secretB} {
		for _, second := range []string{secretA, secretB} {
			for _, record := range []keyRecord{adopted(secretA), recordOf(secretA, configured(apiKeyWO(secretA))), recordOf(secretA, configured(apiKeyWO(secretA), version(1)))} {
				for _, change := range []func(*keyModel){func(*keyModel) {}, version(1), version(2), warnOnly, name("x"), name(" prod ")} {
					for _, prior := range []keyModel{stored(secretA), stored(secretA, version(1)), stored(secretA, updated(moved))} {
						plan := func(value string) updatePlan {
							config := configured(apiKeyWO(value), change)
							return planUpdate(config, propose(config, prior), prior, record, types.StringValue("ws"))
						}
						p1, p2 := plan(first), plan(second)
						if !p1.upload && !p1.changesState(&prior) {
							continue // no change planned: there is no apply
						}
						if !p1.planned.UpdatedAt.IsUnknown() && p2.planned.UpdatedAt.IsUnknown() {
							t.Fatalf("known at plan, unknown at apply: prior %+v, record %+v", prior, record)
						}
					}
				}
			}
		}
	}
}

func TestPlanCreate(t *testing.T) {
	t.Parallel()
	config := configured(apiKeyWO(secretA))
	p := planCreate(config, propose(config, keyModel{}), types.StringUnknown())
	if !p.WorkspaceID.IsUnknown() {
		t.Errorf("workspace_id = %s, want unknown, as the provider's is", p.WorkspaceID)
	}
	if !p.APIKey.IsNull() {
		t.Error("api_key is not null")
	}
	p = planCreate(configured(workspace("mine")), keyModel{}, types.StringValue("ws"))
	if got := p.WorkspaceID.ValueString(); got != "mine" {
		t.Errorf("workspace_id = %q, want the configured one", got)
	}
	for _, v := range []types.String{p.ID, p.MaskedKey, p.CreatedAt, p.CreatedBy, p.UpdatedAt} {
		if !v.IsUnknown() {
			t.Errorf("%s is known", v)
		}
	}
}

func TestDriftOf(t *testing.T) {
	t.Parallel()
	record := recordOf(secretA, configured(apiKey(secretA)))
	for title, tc := range map[string]struct {
		state                   keyModel
		record                  keyRecord
		replaced, undecryptable bool
	}{
		"none":                      {stored(secretA), record, false, false},
		"written elsewhere":         {stored(secretA, updated(moved)), record, true, false},
		"another mask":              {stored(secretB), record, true, false},
		"bullets":                   {stored(secretA, masked(byok.MaskUnknown)), record, false, true},
		"bullets, written":          {stored(secretA, masked(byok.MaskUnknown), updated(moved)), record, true, false},
		"bullets from the start":    {stored("short"), recordOf("short", configured()), false, false},
		"no record":                 {stored(secretA, updated(moved)), keyRecord{}, false, false},
		"own, not confirmed":        {stored(secretB, updated(moved)), record.unconfirmed(), false, false},
		"write that was not listed": {stored(secretA), keyRecord{Version: 1, MaskedKey: byok.Mask(secretA)}, false, false},
	} {
		d := driftOf(tc.state, tc.record)
		if d.replaced != tc.replaced || d.undecryptable != tc.undecryptable {
			t.Errorf("%s: replaced %v, undecryptable %v", title, d.replaced, d.undecryptable)
		}
	}
}
