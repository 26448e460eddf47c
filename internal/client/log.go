package client

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-log/tflog"
)

// logger hands the log of retryablehttp to tflog. It lets through what is
// known to be harmless: errors are put into the client's own words, since
// those of net/http can repeat what a server sent.
type logger struct{ ctx context.Context }

func (l logger) Error(msg string, keysAndValues ...any) {
	tflog.Warn(l.ctx, "BYOK API: "+msg, fields(keysAndValues))
}

func (l logger) Warn(msg string, keysAndValues ...any) {
	tflog.Warn(l.ctx, "BYOK API: "+msg, fields(keysAndValues))
}

func (l logger) Info(msg string, keysAndValues ...any) {
	tflog.Debug(l.ctx, "BYOK API: "+msg, fields(keysAndValues))
}

func (l logger) Debug(msg string, keysAndValues ...any) {
	tflog.Debug(l.ctx, "BYOK API: "+msg, fields(keysAndValues))
}

func fields(keysAndValues []any) map[string]any {
	shown := make(map[string]any, len(keysAndValues)/2)
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		switch key := fmt.Sprint(keysAndValues[i]); key {
		case "method", "url", "request":
			shown[key] = keysAndValues[i+1]
		case "timeout":
			shown["wait"] = fmt.Sprint(keysAndValues[i+1])
		case "error":
			if err, ok := keysAndValues[i+1].(error); ok {
				f := toFailure(err)
				shown[key] = fmt.Sprintf("%s: %s", f.kind, f.detail)
			}
		}
	}
	return shown
}
