// Command terraform-provider-byok serves the Terraform provider byok.
package main

import (
	"flag"
	"log"
	"os"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

// version is set when a release is linked.
var version = "dev"

func main() {
	debugging := flag.Bool("debug", false, "run until interrupted, for a debugger such as delve to attach to")
	printVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *printVersion {
		_, _ = os.Stdout.WriteString("terraform-provider-byok " + version + "\n")
		return
	}

	// The process lives for one plan or apply and its live heap is small: the
	// default of 100 would collect many times a second for nothing.
	debug.SetGCPercent(400)

	if !*debugging {
		muteUnreadLogs(os.LookupEnv, os.Setenv)
	}

	var options []tf6server.ServeOpt
	if *debugging {
		options = append(options, tf6server.WithManagedDebug())
	}
	err := tf6server.Serve("registry.terraform.io/terraform-provider-byok/byok", provider.NewServer(version), options...)
	if err != nil {
		log.Fatal(err)
	}
}

// muteUnreadLogs switches logging off where Terraform would throw away
// whatever is logged, which is unless TF_LOG or TF_LOG_PROVIDER asks for it.
// Each line is otherwise written, sent and parsed first: about a third of the
// CPU time of a large plan. Levels that are set stay as they are.
func muteUnreadLogs(lookup func(string) (string, bool), set func(string, string) error) {
	for _, name := range []string{"TF_LOG", "TF_LOG_PROVIDER"} {
		if level, _ := lookup(name); level != "" && !strings.EqualFold(level, "off") {
			return
		}
	}
	for _, name := range []string{"TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK", "TF_LOG_PROVIDER_BYOK"} {
		if level, _ := lookup(name); level == "" {
			_ = set(name, "OFF") // fails only on a malformed name
		}
	}
}
