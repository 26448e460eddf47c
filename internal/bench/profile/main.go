// Command profile is the provider with a CPU and a memory profile of each of
// its processes, written into the folder that BYOK_PROFILE_DIR names when the
// process ends. It is for `go run ./internal/bench -profile DIR`; the released
// binary has nothing of it.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	// As the provider's main does.
	debug.SetGCPercent(400)
	for _, name := range []string{"TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK", "TF_LOG_PROVIDER_BYOK"} {
		if err := os.Setenv(name, "OFF"); err != nil {
			return err
		}
	}
	dir := os.Getenv("BYOK_PROFILE_DIR")
	cpu, err := os.Create(filepath.Join(dir, fmt.Sprintf("cpu-%d.pprof", os.Getpid())))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	serveErr := tf6server.Serve("registry.terraform.io/terraform-provider-byok/byok", provider.NewServer("profile"))
	pprof.StopCPUProfile()
	allocs, err := os.Create(filepath.Join(dir, fmt.Sprintf("allocs-%d.pprof", os.Getpid())))
	if err != nil {
		return err
	}
	runtime.GC() // what is in use then is in use for good
	if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
		return err
	}
	if err := allocs.Close(); err != nil {
		return err
	}
	if err := cpu.Close(); err != nil {
		return err
	}
	return serveErr
}
