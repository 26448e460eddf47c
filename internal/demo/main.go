// Command demo shows the main job end to end: it applies examples/demo against
// a reference server of its own, looks at what came of it as a user would, and
// leaves nothing behind. `make demo` builds the binaries and runs it from the
// root of the repository. It ends non-zero where a step is not as it should
// be.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

const (
	workspaceID = "11111111-2222-4333-8444-555555555555"
	email       = "demo@example.com"
	stepTimeout = time.Minute
)

func main() {
	bin := flag.String("bin", "bin", "folder with terraform-provider-byok and byok-server")
	config := flag.String("config", filepath.Join("examples", "demo"), "folder with the Terraform configuration")
	keep := flag.Bool("keep", false, "leave the server up at the end, with keys and a little traffic, until interrupted")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *bin, *config, *keep); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// demo is one run: its folder, its server and what it told the server to keep.
type demo struct {
	out      io.Writer
	step     int
	dir      string
	bin      string
	cli      tfrun.CLI
	folder   *tfrun.Folder
	server   *byokserver.Process
	door     byokserver.Door
	password string // of the user with email
	apiKeys  map[string]map[string]string
	// poolNames are the names of the Anthropic keys; nil for the default.
	poolNames []string
}

func run(ctx context.Context, out io.Writer, bin, config string, keep bool) (err error) {
	cli, err := tfrun.Find()
	if err != nil {
		return err
	}
	for _, program := range []string{"terraform-provider-byok", "byok-server"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return fmt.Errorf("%w; run make demo, which builds it", err)
		}
	}
	dir, err := os.MkdirTemp("", "byok-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{
		out: out, dir: dir, bin: bin, cli: cli, password: rand.Text(),
		apiKeys: map[string]map[string]string{
			"openai":    secretsFor("openai", "blue", "green", "red"),
			"anthropic": secretsFor("anthropic", "primary", "spare"),
		},
	}
	defer func() { err = errors.Join(err, d.stopServer()) }()

	steps := []func(context.Context) error{
		d.startServer,
		func(ctx context.Context) error { return d.initTerraform(ctx, config) },
		d.applyKeys,
		d.askForKeys,
		d.planAgain,
		d.overfillPool,
		d.replaceSecret,
		d.fillPool,
		d.swapPool,
		d.nameUnmanaged,
	}
	if !keep {
		steps = append(steps, d.destroyKeys, func(context.Context) error {
			d.narrate("Stop byok-server and remove its folder")
			return d.stopServer()
		})
	}
	for _, step := range steps {
		stepCtx, cancel := context.WithTimeout(ctx, stepTimeout)
		err := step(stepCtx)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", d.step, err)
		}
	}
	fmt.Fprintln(out, "\nAll steps came out as they should.")
	if keep {
		return d.keepServing(ctx)
	}
	fmt.Fprintln(out, "To see keys and their rotation in a browser: make demo KEEP=1, then open the address that it prints.")
	return nil
}

func (d *demo) startServer(ctx context.Context) (err error) {
	secrets := server.Secrets{InternalSecret: rand.Text()} // it makes the others itself
	d.server, err = byokserver.Start(ctx, byokserver.Config{
		Binary: filepath.Join(d.bin, "byok-server"), Dir: d.dir, Database: "sqlite:" + filepath.Join(d.dir, "byok-server.db"), Secrets: secrets,
		Bootstrap: &server.Bootstrap{
			Users:      []server.BootstrapUser{{Email: email, Password: d.password, Name: "Demo", Superuser: true}},
			Workspaces: []server.BootstrapWorkspace{{ID: workspaceID, Name: "Demo", Owner: email}},
		},
	})
	if err != nil {
		return err
	}
	session, err := d.server.SignIn(ctx, email)
	if err != nil {
		return err
	}
	d.door = byokserver.Door{Client: http.DefaultClient, URL: func() string { return d.server.URL }, Session: session, InternalSecret: secrets.InternalSecret}
	d.narrate("Start byok-server on %s, its keys encrypted in an SQLite file", d.server.URL)
	return nil
}

// initTerraform lays the provider out as a registry would, so that init runs
// as it does for users.
func (d *demo) initTerraform(ctx context.Context, config string) (err error) {
	mirror := filepath.Join(d.dir, "mirror")
	if err := copyFile(filepath.Join(d.bin, "terraform-provider-byok"), d.cli.PackagePath(mirror, tfrun.Source), 0o700); err != nil {
		return err
	}
	d.folder, err = d.cli.Folder(d.dir, d.cli.Mirror(mirror),
		"BYOK_ENDPOINT="+d.server.URL, "BYOK_WORKSPACE_ID="+workspaceID, "BYOK_SESSION_TOKEN="+d.door.Session)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(config, "*.tf"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no *.tf in %s; run the demo from the root of the repository", config)
	}
	for _, file := range files {
		if err := copyFile(file, filepath.Join(d.folder.Dir, filepath.Base(file)), 0o600); err != nil {
			return err
		}
	}
	d.narrate("%s init, with the provider from a local filesystem mirror", d.cli.Name())
	_, err = d.terraform(ctx, "init")
	return err
}

func (d *demo) applyKeys(ctx context.Context) error {
	d.narrate("%s apply: three OpenAI keys (byok_key) and a pool of two Anthropic keys (byok_pool), their secrets write-only", d.cli.Name())
	out, err := d.terraform(ctx, "apply", "-auto-approve")
	if err != nil {
		return err
	}
	if err := expect(out, "Apply complete! Resources: 4 added, 0 changed, 0 destroyed."); err != nil {
		return err
	}
	d.narrate("The keys as the data source byok_keys returns them, in rotation order")
	keys, err := d.keys(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(d.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "     PROVIDER ID\tNAME\tKEY ID\tMASKED KEY")
	for _, key := range keys {
		fmt.Fprintf(table, "     %s\t%s\t%s\t%s\n", key.ProviderID, key.Name, key.ID, key.MaskedKey)
	}
	return table.Flush()
}

func (d *demo) askForKeys(ctx context.Context) error {
	d.narrate("Ask the server for an OpenAI key seven times: served in the order of that list")
	keys, err := d.keys(ctx)
	if err != nil {
		return err
	}
	var pool []storedKey
	for _, key := range keys {
		if key.ProviderID == "openai" {
			pool = append(pool, key)
		}
	}
	if len(pool) != 3 {
		return fmt.Errorf("the data source lists %d OpenAI keys, not 3", len(pool))
	}
	var served, letters []string
	for i := range 7 {
		got, err := d.resolve(ctx, "openai")
		if err != nil {
			return err
		}
		want := pool[i%3]
		if got.KeyID != want.ID || got.APIKey != d.apiKeys["openai"][want.Name] {
			return fmt.Errorf("call %d was served key %s, not %s (%s)", i+1, got.KeyID, want.ID, want.Name)
		}
		served, letters = append(served, want.Name), append(letters, string(rune('A'+i%3)))
	}
	d.detail("%s   (%s)", strings.Join(letters, " "), strings.Join(served, ", "))
	return nil
}

func (d *demo) planAgain(ctx context.Context) error {
	d.narrate("%s plan again", d.cli.Name())
	out, err := d.terraform(ctx, "plan", "-detailed-exitcode")
	if err != nil {
		return err
	}
	if err := expect(out, "No changes."); err != nil {
		return err
	}
	d.detail("No changes. Your infrastructure matches the configuration.")
	return nil
}

func (d *demo) overfillPool(ctx context.Context) error {
	names, full := []string{"blue", "green", "red"}, secretsFor("openai")
	for i := 4; i <= 11; i++ {
		names = append(names, fmt.Sprintf("extra-%02d", i))
	}
	for _, name := range names {
		full[name] = "sk-demo-openai-" + rand.Text()
	}
	for name, apiKey := range d.apiKeys["openai"] {
		full[name] = apiKey
	}
	d.narrate("%s plan with eleven OpenAI keys: the cap is an error before anything changes", d.cli.Name())
	out, err := d.terraformWith(ctx, 1, map[string]any{"openai_names": names, "openai_api_keys": full}, "plan")
	if err != nil {
		return err
	}
	begin := strings.Index(out, "Error: ")
	if begin < 0 || !strings.Contains(out[begin:], "openai") {
		return fmt.Errorf("the plan failed, but not at the cap:\n%s", out)
	}
	d.frame(out[begin:])
	return nil
}

// frame shows a part of what terraform has printed.
func (d *demo) frame(text string) {
	fmt.Fprintln(d.out, "     ╷")
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintln(d.out, strings.TrimRight("     │ "+line, " \n"))
	}
	fmt.Fprintln(d.out, "     ╵")
}

// poolOf declares Anthropic keys with a prefix from now on.
func (d *demo) poolOf(prefix string, size int) {
	d.poolNames = nil
	for i := range size {
		d.poolNames = append(d.poolNames, fmt.Sprintf("%s-%02d", prefix, i+1))
	}
	d.apiKeys["anthropic"] = secretsFor("anthropic", d.poolNames...)
}

func (d *demo) fillPool(ctx context.Context) error {
	d.narrate("Fill the Anthropic pool with ten keys; an eleventh is an error at plan")
	d.poolOf("old", 11)
	out, err := d.terraformWith(ctx, 1, nil, "plan")
	if err != nil {
		return err
	}
	if err := expect(out, `Pool "anthropic" would hold 11 keys, its cap is 10`); err != nil {
		return err
	}
	d.poolOf("old", 10)
	if _, err := d.terraform(ctx, "apply", "-auto-approve"); err != nil {
		return err
	}
	d.detail(`Error: Pool "anthropic" would hold 11 keys, its cap is 10`)
	return nil
}

// swapPool asks for a key all the while.
func (d *demo) swapPool(ctx context.Context) error {
	d.narrate("Swap all ten keys of the full Anthropic pool in one apply, while it serves")
	d.poolOf("new", 10)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	type seen struct {
		served int
		err    error
	}
	watched := make(chan seen)
	go func() {
		var s seen
		for watching.Err() == nil && s.err == nil {
			got, err := d.resolve(ctx, "anthropic")
			switch {
			case err != nil:
				s.err = err
			case got == nil:
				s.err = errors.New("the pool served nothing during the swap")
			default:
				s.served++
			}
		}
		watched <- s
	}()
	out, err := d.terraform(ctx, "apply", "-auto-approve")
	stop()
	s := <-watched
	if err := errors.Join(err, s.err); err != nil {
		return err
	}
	if err := expect(out, "Apply complete! Resources: 0 added, 1 changed, 0 destroyed."); err != nil {
		return err
	}
	d.detail("10 keys swapped; %d requests meanwhile, each served a key", s.served)
	return nil
}

// nameUnmanaged adds a key as another user would. The pool is exclusive.
func (d *demo) nameUnmanaged(ctx context.Context) error {
	d.narrate("Another user adds a key to the exclusive pool: the plan names it, the apply removes it")
	d.poolNames = d.poolNames[:9]
	if _, err := d.terraform(ctx, "apply", "-auto-approve"); err != nil {
		return err
	}
	name := "added by hand"
	status, text, err := d.door.Do(ctx, http.MethodPost, "/api/workspaces/"+workspaceID+"/byok-keys",
		byok.SaveRequest{ProviderID: "anthropic", APIKey: "sk-demo-by-hand-" + rand.Text(), Name: &name}, nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("adding a key: status %d, %w\n%s", status, err, text)
	}
	out, err := d.terraform(ctx, "apply", "-auto-approve")
	if err != nil {
		return err
	}
	begin, end := strings.Index(out, "  ~ resource \"byok_pool\""), strings.Index(out, "Plan: ")
	if begin < 0 || end < begin || !strings.Contains(out[begin:end], name) {
		return fmt.Errorf("the plan does not name the key:\n%s", out)
	}
	d.frame(out[begin:end])
	return nil
}

func (d *demo) replaceSecret(ctx context.Context) error {
	d.narrate("Replace the secret of green: one update in place, the same key ID")
	before, err := d.key(ctx, "green")
	if err != nil {
		return err
	}
	d.apiKeys["openai"]["green"] = "sk-next-openai-green-" + rand.Text()
	out, err := d.terraform(ctx, "apply", "-auto-approve")
	if err != nil {
		return err
	}
	if err := expect(out, "Apply complete! Resources: 0 added, 1 changed, 0 destroyed."); err != nil {
		return err
	}
	after, err := d.key(ctx, "green")
	if err != nil {
		return err
	}
	if after.ID != before.ID || after.MaskedKey == before.MaskedKey {
		return fmt.Errorf("key %s (%s) became %s (%s)", before.ID, before.MaskedKey, after.ID, after.MaskedKey)
	}
	for range 3 {
		got, err := d.resolve(ctx, "openai")
		if err != nil {
			return err
		}
		if got.KeyID == after.ID && got.APIKey != d.apiKeys["openai"]["green"] {
			return fmt.Errorf("key %s still serves its old secret", after.ID)
		}
	}
	d.detail("%s: %s is now %s, and served", after.ID, before.MaskedKey, after.MaskedKey)
	return nil
}

func (d *demo) destroyKeys(ctx context.Context) error {
	d.narrate("%s destroy", d.cli.Name())
	out, err := d.terraform(ctx, "destroy", "-auto-approve")
	if err != nil {
		return err
	}
	if err := expect(out, "Destroy complete! Resources: 4 destroyed."); err != nil {
		return err
	}
	for _, providerID := range []string{"openai", "anthropic"} {
		if got, err := d.resolve(ctx, providerID); err != nil {
			return err
		} else if got != nil {
			return fmt.Errorf("the server still serves %s key %s", providerID, got.KeyID)
		}
	}
	d.detail("12 keys destroyed; the server has none left to serve")
	return nil
}

func (d *demo) stopServer() error {
	if d.server == nil {
		return nil
	}
	server := d.server
	d.server = nil
	return server.Stop()
}

// storedKey is an element of the output "keys".
type storedKey struct {
	ID         string `json:"id"`
	ProviderID string `json:"provider_id"`
	Name       string `json:"name"`
	MaskedKey  string `json:"masked_key"`
}

func (d *demo) keys(ctx context.Context) ([]storedKey, error) {
	out, err := d.terraform(ctx, "output", "-json", "keys")
	if err != nil {
		return nil, err
	}
	var keys []storedKey
	err = json.Unmarshal([]byte(out), &keys)
	return keys, err
}

func (d *demo) key(ctx context.Context, name string) (storedKey, error) {
	keys, err := d.keys(ctx)
	for _, key := range keys {
		if key.Name == name {
			return key, err
		}
	}
	return storedKey{}, errors.Join(err, fmt.Errorf("the data source lists no key named %s", name))
}

// resolve asks for a key as Sim's own workflows would; nil where there is
// none.
func (d *demo) resolve(ctx context.Context, providerID string) (*byokserver.Served, error) {
	return d.door.Resolve(ctx, workspaceID, providerID)
}

// terraform runs terraform and returns what it printed, or an error where it
// failed.
func (d *demo) terraform(ctx context.Context, args ...string) (string, error) {
	return d.terraformWith(ctx, 0, nil, args...)
}

// terraformWith runs terraform with variables beside the usual ones and
// returns what it printed, or an error where it did not end with exit.
func (d *demo) terraformWith(ctx context.Context, exit int, variables map[string]any, args ...string) (string, error) {
	all := map[string]any{"openai_api_keys": d.apiKeys["openai"], "anthropic_api_keys": d.apiKeys["anthropic"]}
	for name, value := range variables {
		all[name] = value
	}
	if d.poolNames != nil {
		all["anthropic_names"] = d.poolNames
	}
	folder := *d.folder
	folder.Env = slices.Clone(d.folder.Env)
	for name, value := range all {
		text, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		folder.Env = append(folder.Env, "TF_VAR_"+name+"="+string(text))
	}
	result, err := folder.Exec(ctx, append(args, "-no-color")...)
	if err != nil {
		return "", err
	}
	if result.Exit != exit {
		return "", fmt.Errorf("%s ended with %d, not %d:\n%s", result, result.Exit, exit, result.Output)
	}
	return result.Output, nil
}

func (d *demo) narrate(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "%2d.  %s\n", d.step, fmt.Sprintf(format, args...))
}

func (d *demo) detail(format string, args ...any) {
	fmt.Fprintf(d.out, "     %s\n", fmt.Sprintf(format, args...))
}

func expect(out, want string) error {
	if strings.Contains(out, want) {
		return nil
	}
	return fmt.Errorf("it did not say %q:\n%s", want, out)
}

// secretsFor makes up one API key per name.
func secretsFor(providerID string, names ...string) map[string]string {
	apiKeys := map[string]string{}
	for _, name := range names {
		apiKeys[name] = "sk-demo-" + providerID + "-" + name + "-" + rand.Text()
	}
	return apiKeys
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from) //nolint:gosec // our own files
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode) //nolint:gosec // our own folder
}
