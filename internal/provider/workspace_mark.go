package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/diag"
)

// workspaceMark stands in the private state of a key or pool that was read while
// the provider's workspace was not known.
const workspaceMark = "workspace_unknown"

// privateState is what the responses of a read and of a plan have.
type privateState interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// markWorkspace leaves the mark in what a read returns, or removes it. An apply
// gets it back in its planning call, in a process that knows the workspace.
func (o *operation) markWorkspace(ctx context.Context, private privateState) diag.Diagnostics {
	if o.workspaceID.IsUnknown() {
		return private.SetKey(ctx, workspaceMark, []byte("true"))
	}
	return private.SetKey(ctx, workspaceMark, nil)
}

// workspaceMarked reports whether a planning call has the mark, and takes it from
// what it returns.
func workspaceMarked(ctx context.Context, private privateState) (bool, diag.Diagnostics) {
	mark, diags := private.GetKey(ctx, workspaceMark)
	diags.Append(private.SetKey(ctx, workspaceMark, nil)...)
	return len(mark) > 0, diags
}
