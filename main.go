// Command terraform-provider-byok serves the Terraform provider byok.
package main

import (
	"context"
	"flag"
	"log"
	"runtime/debug"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

// version is set when a release is linked.
var version = "dev"

func main() {
	debugging := flag.Bool("debug", false, "run until interrupted, for a debugger such as delve to attach to")
	flag.Parse()

	// The process lives for one walk and its live heap is small, so that the
	// default of 100 collects many times a second for nothing.
	debug.SetGCPercent(400)

	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: "registry.terraform.io/terraform-provider-byok/byok",
		Debug:   *debugging,
	})
	if err != nil {
		log.Fatal(err)
	}
}
