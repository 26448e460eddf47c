package provider

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// A call that has ended does not keep what its context carries.
func TestServerForgetsCalls(t *testing.T) {
	t.Parallel()
	type key struct{}
	freed := make(chan struct{})
	server := NewServer("test")()
	func() {
		carried := new([1 << 10]byte)
		runtime.AddCleanup(carried, func(ch chan struct{}) { close(ch) }, freed)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, carried))
		defer cancel()
		if _, err := server.UpgradeResourceState(ctx, &tfprotov6.UpgradeResourceStateRequest{TypeName: "byok_key"}); err != nil {
			t.Fatal(err)
		}
	}()
	deadline := time.After(10 * time.Second)
	for {
		runtime.GC()
		select {
		case <-freed:
			runtime.KeepAlive(server)
			return
		case <-deadline:
			t.Fatal("the server still holds the context of a call that has ended")
		case <-time.After(time.Millisecond):
		}
	}
}

// While a call lasts, its context is that of Terraform: a stop reaches it.
func TestCallContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	call := begin(ctx)
	below, stop := context.WithCancel(call)
	defer stop()
	if below.Err() != nil {
		t.Fatal("cancelled from the start")
	}
	cancel()
	<-below.Done()
	call.end()
	if call.Err() == nil {
		t.Error("not cancelled after its end")
	}
}
