package main

import (
	"context"
	"fmt"
	"time"
)

// trafficPause is the time between two requests of keepServing.
const trafficPause = 400 * time.Millisecond

// ownEnd is how long a program that got the same Ctrl-C may take to end.
const ownEnd = 3 * time.Second

// keepServing says where to look and serves keys, so that the rotation moves,
// until ctx ends.
func (d *demo) keepServing(ctx context.Context) error {
	fmt.Fprintf(d.out, `
byok-server stays up. Look at its keys and their rotation in a browser:

     %s/workspace/%s/settings/byok
     sign in as %s with the password %s

Ctrl-C stops it and removes its folder.
`, d.server.URL, workspaceID, email, d.password)
	err := d.serveKeys(ctx)
	if ctx.Err() == nil {
		return err
	}
	// Ctrl-C reached byok-server as well, and a second signal would end it at once.
	d.server.Wait(ownEnd)
	return nil
}

// serveKeys asks for keys until ctx ends.
func (d *demo) serveKeys(ctx context.Context) error {
	tick := time.NewTicker(trafficPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		providerID := "openai"
		if n%3 == 2 {
			providerID = "anthropic"
		}
		// A key may have been deleted in the browser; no key is no failure then.
		if _, err := d.door.Resolve(ctx, workspaceID, providerID); err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(ownEnd): // Ctrl-C may have reached byok-server first
				return err
			}
		}
	}
}
