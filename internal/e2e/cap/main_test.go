package cap

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
	measured "github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/figures"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

const (
	providerBinary = "terraform-provider-byok"
	hintVariable   = "BYOK_TEST_DEFERRAL_ALLOWED"
)

var runs = flag.Int("runs", 1, "how often each case runs whose outcome depends on the order of visits")

// results are the runs of the racing cases of this test binary.
var results figures

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == providerBinary {
		serveWithHint(os.Getenv(hintVariable) == "true")
		return
	}
	flag.Parse()
	// A test mostly waits: for terraform, and for a plan to be quiet.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	code := tfrun.Run(m)
	results.print(os.Stdout)
	os.Exit(code)
}

// serveWithHint makes this test binary a provider that is always told that
// deferral is allowed, as in Terraform Stacks, or never, as by OpenTofu.
// Terraform starts it through a link of the provider's name.
func serveWithHint(allowed bool) {
	server := provider.NewServer("test")
	err := tf6server.Serve("registry.terraform.io/"+tfrun.Source, func() tfprotov6.ProviderServer { return withHint{server(), allowed} })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type withHint struct {
	tfprotov6.ProviderServer
	allowed bool
}

func (s withHint) ConfigureProvider(ctx context.Context, req *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	req.ClientCapabilities = &tfprotov6.ConfigureProviderClientCapabilities{DeferralAllowed: s.allowed}
	return s.ProviderServer.ConfigureProvider(ctx, req)
}

func (s withHint) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	req.ClientCapabilities = &tfprotov6.PlanResourceChangeClientCapabilities{DeferralAllowed: s.allowed}
	return s.ProviderServer.PlanResourceChange(ctx, req)
}

// figures counts runs and failures by case.
type figures struct {
	mu   sync.Mutex
	rows []figure
}

type figure struct {
	name           string
	runs, failures int
}

func (f *figures) add(row figure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, row)
}

func (f *figures) print(out io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.rows, func(x, y figure) int { return strings.Compare(x.name, y.name) })
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	runs, failures := 0, 0
	for _, row := range f.rows {
		runs, failures = runs+row.runs, failures+row.failures
		fmt.Fprintf(table, "%d\truns,\t%d\tfailures\t  %s\n", row.runs, row.failures, row.name)
	}
	_ = table.Flush()
	measured.Report("plans of the cap that depend on the order of visits: %d runs of %d cases, %d failures", runs, len(f.rows), failures)
}
