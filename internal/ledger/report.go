package ledger

import "github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"

// OverCap says that a plan would leave a pool with more keys than its cap.
type OverCap struct {
	Pool      Pool
	Cap       int
	Stored    int        // keys in the pool today; -1 when the list failed
	Kept      int        // stored keys that this plan keeps
	Added     int        // keys that this plan creates, replacements included
	Removed   int        // stored keys that this plan removes, replaced ones included
	Unmanaged []byok.Key // stored keys that this plan does not mention, in rotation order
	Certain   bool       // known without waiting: kept and added keys alone exceed the cap
}

// Summary is the one-line title of the error.
func (o *OverCap) Summary() string { return "" }

// Detail is the body of the error.
func (o *OverCap) Detail() string { return "" }

// Unchecked says that the pools of a workspace were not checked.
type Unchecked struct {
	WorkspaceID string
	Err         error // what the list returned
}

// Summary is the one-line title of the warning.
func (u *Unchecked) Summary() string { return "" }

// Detail is the body of the warning.
func (u *Unchecked) Detail() string { return "" }

// Refused is the same news at apply: the API refused a create because the pool
// was full, and no delete of this apply made room in time. The provider builds
// it.
type Refused struct {
	Pool   Pool
	Cap    int
	Stored []byok.Key // the keys of the pool, in rotation order; nil if unknown
}

// Summary is the one-line title of the error.
func (r *Refused) Summary() string { return "" }

// Detail is the body of the error.
func (r *Refused) Detail() string { return "" }
