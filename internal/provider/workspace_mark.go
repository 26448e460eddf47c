package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/diag"
)

// workspaceMark stands in the private state of a key or pool that was read while
// the provider's workspace was not known.
const workspaceMark = "workspace_unknown"

// markWorkspace leaves the mark in what a read returns, or removes it. An apply
// gets it back in its planning call, in a process that knows the workspace.
func (o *operation) markWorkspace(ctx context.Context, private privateWriter) diag.Diagnostics {
	if o.workspaceID.IsUnknown() {
		return private.SetKey(ctx, workspaceMark, []byte("true"))
	}
	return private.SetKey(ctx, workspaceMark, nil)
}

// workspaceMarked reports whether a planning call has the mark, and takes it from
// what it returns.
func workspaceMarked(ctx context.Context, private interface {
	privateReader
	privateWriter
}) (bool, diag.Diagnostics) {
	mark, diags := private.GetKey(ctx, workspaceMark)
	diags.Append(private.SetKey(ctx, workspaceMark, nil)...)
	return len(mark) > 0, diags
}
