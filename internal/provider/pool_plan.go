package provider

import (
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/types"
)

// poolPlan is what a plan does with a pool.
type poolPlan struct {
	planned poolModel
	// replacedBy names the attributes that ask for a replace.
	replacedBy []string
	// keys are the declared elements in the order of their map keys, as far as
	// they are known.
	keys []poolKeyPlan
	// removed are the map keys in state of the keys that go.
	removed []string
	// unmanaged are the IDs of the keys that an exclusive pool removes.
	unmanaged []string
}

// poolKeyPlan is what a plan does with one declared element.
type poolKeyPlan struct {
	name string // the map key
	// from is the map key in state of the stored key that the element has or
	// takes over; empty for a new key.
	from          string
	config, prior keyModel
	record        keyRecord
	update        updatePlan // of a stored key
}

// replaces reports whether the pool makes way for another one.
func (p poolPlan) replaces() bool { return len(p.replacedBy) > 0 }

// adds is the number of new keys.
func (p poolPlan) adds() (n int) {
	for _, key := range p.keys {
		if key.from == "" {
			n++
		}
	}
	return n
}

// stores reports whether the plan adds or replaces keys.
func (p poolPlan) stores() bool {
	return p.adds() > 0 || slices.ContainsFunc(p.keys, func(key poolKeyPlan) bool { return key.update.upload })
}

// planPool decides what happens to a pool. prior is the zero poolModel for one
// that is to be created. It is pure, so that the plan, the second look at the
// start of the apply, and the apply itself come to the same end from the same
// values, and so that it can be tested alone.
func planPool(config, prior poolModel, record poolRecord, defaultWorkspaceID types.String) poolPlan {
	creates := prior.ProviderID.IsNull()
	config = config.withDefaults()
	config = config.withScope(planScope(config.scopeFields().values(), prior.scopeFields().values(), defaultWorkspaceID))

	p := poolPlan{planned: config}
	if creates {
		// Terraform plans a create again at apply, with no memory of this
		// plan: nothing can be promised about keys of others.
		p.planned.Unmanaged = objectMap[unmanagedKey]{unknown: true}
	} else {
		p.replacedBy = poolTable.different(&config, &prior, placing)
		p.planned.Unmanaged = prior.Unmanaged
	}
	if config.Keys.unknown {
		return p
	}

	p.planned.Keys.elements = make(map[string]poolKey, len(config.Keys.elements))
	from := storedFor(config, prior, record)
	taken := map[string]bool{}
	for _, name := range config.names() {
		if element := config.Keys.elements[name]; element.isUnknown() {
			element.APIKeyWO = types.StringNull()
			p.planned.Keys.elements[name] = element
			taken[name] = true
			continue
		}
		key := poolKeyPlan{name: name, from: from[name]}
		if key.from == "" {
			key.config = config.declaredKey(name, "")
			p.planned.Keys.elements[name] = poolKeyOf(planCreate(key.config, key.config, config.WorkspaceID))
		} else {
			taken[key.from] = true
			key.prior, key.record = prior.key(key.from), record.keys[key.from]
			key.config = config.declaredKey(name, key.prior.ID.ValueString())
			// A setting of the pool, which changes none of its keys.
			key.prior.OnRemoteChange = key.config.OnRemoteChange
			proposed := key.config
			proposed.APIKeyWO = types.StringNull()
			key.update = planUpdate(key.config, proposed, key.prior, key.record, config.WorkspaceID)
			p.planned.Keys.elements[name] = poolKeyOf(key.update.planned)
		}
		p.keys = append(p.keys, key)
	}
	for _, name := range prior.names() {
		if !taken[name] {
			p.removed = append(p.removed, name)
		}
	}
	if !creates && config.Exclusive.ValueBool() {
		p.unmanaged = slices.Sorted(maps.Keys(prior.Unmanaged.elements))
		p.planned.Unmanaged = objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}}
	}
	return p
}

// storedFor returns, by the map key of each declared element, the map key in
// state of the stored key that it has: its own, or that of an element that
// goes and whose secret is provably the declared one. The key then stays, under
// another name perhaps. A mask alone proves nothing.
func storedFor(config, prior poolModel, record poolRecord) map[string]string {
	from, taken := map[string]string{}, map[string]bool{}
	for name := range config.Keys.elements {
		if _, stored := prior.Keys.elements[name]; stored {
			from[name], taken[name] = name, true
		}
	}
	for _, name := range config.names() {
		secret := config.Keys.elements[name].APIKeyWO
		if from[name] != "" || secret.IsNull() || secret.IsUnknown() {
			continue
		}
		for _, leaving := range prior.names() {
			if !taken[leaving] && record.keys[leaving].recognises(secret) {
				from[name], taken[leaving] = leaving, true
				break
			}
		}
	}
	return from
}

// withDefaults returns a configuration with the schema's defaults.
func (m poolModel) withDefaults() poolModel {
	config := m
	poolTable.setDefaults(&m, &config)
	return m
}
