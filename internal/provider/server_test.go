package provider

import (
	"context"
	"reflect"
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

// Each call that the framework's server implements reaches it through the
// wrappers: terraform-plugin-go looks for some of them with type assertions,
// and takes a call that it does not find for one that is not supported.
func TestServerHasEveryCall(t *testing.T) {
	t.Parallel()
	p := &byokProvider{version: "test", getenv: func(string) string { return "" }}
	framework := reflect.TypeOf(newFramework(p))
	for title, server := range map[string]any{
		"served": newServer(nil), "context-releasing": contextReleasingServer{newFramework(p)},
	} {
		wrapper := reflect.TypeOf(server)
		for i := range framework.NumMethod() {
			call := framework.Method(i)
			method, ok := wrapper.MethodByName(call.Name)
			switch {
			case !ok:
				t.Errorf("%s: %s is hidden", title, call.Name)
			case !sameSignature(call.Type, method.Type):
				t.Errorf("%s: %s is %s, not %s", title, call.Name, method.Type, call.Type)
			}
		}
	}
	var server any = newServer(nil)
	for title, ok := range map[string]bool{
		"list resources": is[tfprotov6.ListResourceServer](server),
		"actions":        is[tfprotov6.ActionServer](server),
		"state stores":   is[tfprotov6.StateStoreServer](server),
	} {
		if !ok {
			t.Errorf("%s are hidden", title)
		}
	}
	resp, err := server.(tfprotov6.ListResourceServer).ValidateListResourceConfig(t.Context(), &tfprotov6.ValidateListResourceConfigRequest{TypeName: "byok_unknown"})
	if err != nil || len(resp.Diagnostics) != 1 || resp.Diagnostics[0].Summary != "List Resource Type Not Found" {
		t.Errorf("a call does not reach the framework: %+v, %v", resp, err)
	}
}

func is[T any](v any) bool { _, ok := v.(T); return ok }

// sameSignature compares two methods apart from their receivers.
func sameSignature(a, b reflect.Type) bool {
	if a.NumIn() != b.NumIn() || a.NumOut() != b.NumOut() {
		return false
	}
	for i := 1; i < a.NumIn(); i++ {
		if a.In(i) != b.In(i) {
			return false
		}
	}
	for i := range a.NumOut() {
		if a.Out(i) != b.Out(i) {
			return false
		}
	}
	return true
}
