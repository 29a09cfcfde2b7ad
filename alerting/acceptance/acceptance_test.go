package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "github.com/prometheus/alertmanager/test/with_api_v2" // keeps the tests' modules in go.mod
)

// suite is the package of Alertmanager's acceptance tests; go.mod has the version.
const suite = "github.com/prometheus/alertmanager/test/with_api_v2/acceptance"

// excluded are the tests of the suite that the collector does not take, and why.
var excluded = map[string]string{
	"TestClusterDeduplication":               "a cluster of Alertmanagers: collectors do not gossip",
	"TestClusterVSInstance":                  "a cluster of Alertmanagers: collectors do not gossip",
	"TestCannotAddUTF8AlertsInClassicMode":   "the classic matcher mode, which the collector has not",
	"TestCannotAddUTF8SilencesInClassicMode": "the classic matcher mode, which the collector has not",
}

// The tests measure time to 150 ms, which a busy machine does not keep, and one (TestWebhookTimeout) leaves a second for
// a retry whose wait has jitter here: 10 of 24 runs on an idle machine missed it. A failed test is run again alone, so
// often that chance fails it once in a billion times; where the retry is broken, all runs fail.
const again = 24

// built are the programs that a test needs, in a folder from which the suite finds its alertmanager at ../../../.
type built struct{ root, suite, collector, amtool string }

func build(t *testing.T) built {
	t.Helper()
	dir := t.TempDir()
	b := built{filepath.Join(dir, "a/b/c"), filepath.Join(dir, "suite"), filepath.Join(dir, "collector"), filepath.Join(dir, "amtool")}
	if err := os.MkdirAll(b.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, args string }{
		{"../..", "build -o " + b.collector + " ./collector"},
		{".", "build -o " + filepath.Join(dir, "alertmanager") + " ."},
		{".", "build -o " + b.amtool + " -ldflags=-X=github.com/prometheus/common/version.Version=" + alertmanagerVersion(t) + " github.com/prometheus/alertmanager/cmd/amtool"},
		{".", "test -c -o " + b.suite + " " + suite},
	} {
		cmd := exec.CommandContext(t.Context(), "go", strings.Fields(c.args)...)
		cmd.Dir = c.in
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", c.args, err, out)
		}
	}
	return b
}

// alertmanagerVersion is the version of the suite's module, such as 0.34.2. A released amtool bears its own, and
// compares it with the server's.
func alertmanagerVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "github.com/prometheus/alertmanager").Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}

// The suite and amtool are of the version that the collector embeds.
func TestVersion(t *testing.T) {
	version := func(in string) string {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "github.com/prometheus/alertmanager")
		cmd.Dir = in
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if own, embedded := version("."), version("../.."); own != embedded {
		t.Errorf("go.mod here has Alertmanager %s, the collector's has %s", own, embedded)
	}
}

func (b built) run(ctx context.Context, args ...string) string {
	cmd := exec.CommandContext(ctx, b.suite, args...)
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "COLLECTOR="+b.collector, "TMPDIR="+b.root) // the suite leaves folders behind
	out, _ := cmd.CombinedOutput()                                                              // the tests' output names the failures
	return string(out)
}

func TestAlertmanagersOwnTests(t *testing.T) {
	b := build(t)
	var names []string
	for _, name := range strings.Fields(b.run(t.Context(), "-test.list", "^Test")) {
		if excluded[name] == "" {
			names = append(names, name)
		}
	}
	if len(names) < 23 {
		t.Fatalf("the suite has only %d tests: %v", len(names), names)
	}
	for name := range maps.Keys(excluded) {
		if b.run(t.Context(), "-test.list", "^"+name+"$") == "" {
			t.Errorf("excluded test %s is no longer in the suite", name)
		}
	}
	left, out := names, ""
	for try := range again {
		parallel := "4"
		if try > 0 {
			parallel = "1"
		}
		out = b.run(t.Context(), "-test.v", "-test.timeout", "4m", "-test.parallel", parallel, "-test.run", "^("+strings.Join(left, "|")+")$")
		left = slices.DeleteFunc(slices.Clone(left), func(name string) bool { return strings.Contains(out, "--- PASS: "+name+" ") })
		if len(left) == 0 {
			t.Logf("%d tests of %s pass, %d are excluded", len(names), suite, len(excluded))
			return
		}
		t.Logf("try %d: %v failed", try+1, left)
	}
	t.Errorf("%v failed %d times; the last time:\n%s", left, again, out)
}

// operator runs amtool against a collector, as an operator does: with a token in amtool's own HTTP settings.
type operator struct {
	t              *testing.T
	binary, config string
	address        *url.URL
}

func (o *operator) do(args ...string) string {
	o.t.Helper()
	all := append([]string{"--alertmanager.url", o.address.String(), "--http.config.file", o.config}, args...)
	cmd := exec.CommandContext(o.t.Context(), o.binary, all...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), "are different") { // its own version and the collector's Alertmanager's
		o.t.Fatalf("amtool %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

func (o *operator) want(text string, args ...string) {
	o.t.Helper()
	if out := o.do(args...); !strings.Contains(out, text) {
		o.t.Errorf("amtool %v: lacks %q:\n%s", args, text, out)
	}
}

func (o *operator) wantNot(text string, args ...string) {
	o.t.Helper()
	if out := o.do(args...); strings.Contains(out, text) {
		o.t.Errorf("amtool %v: has %q:\n%s", args, text, out)
	}
}

const amtoolConfig = `
route: {receiver: oncall, group_by: [alertname]}
receivers: [{name: oncall}]
`

// amtool works against the collector, and its silences survive kill -9.
func TestAmtool(t *testing.T) {
	b := build(t)
	dir := t.TempDir()
	config, settings := filepath.Join(dir, "alertmanager.yml"), filepath.Join(dir, "http.yml")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config, amtoolConfig)
	c := &collector{binary: b.collector, dir: filepath.Join(dir, "data"), config: config}
	token, err := c.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write(settings, fmt.Sprintf("authorization: {credentials: %q}\n", token))
	serve, address, err := c.start(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t, b.amtool, settings, address}

	o.want("SUCCESS", "check-config", config)
	o.want("name: oncall", "config", "show")
	o.want("oncall", "config", "routes", "test", "alertname=Hot")
	o.want("Cluster Status", "cluster", "show")
	o.do("alert", "add", "Hot", "board=b1", "--annotation", "summary=It is hot")
	o.do("alert", "add", "Cold", "board=b2")
	o.want("Hot", "alert", "query")
	o.want("board=\"b1\"", "alert", "query", "-o", "extended", "board=b1")
	o.wantNot("Cold", "alert", "query", "board=b1")

	id := strings.TrimSpace(o.do("silence", "add", "alertname=Hot", "--duration", "1h", "--author", "mira", "--comment", "the fan is on its way"))
	if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(id) {
		t.Fatalf("silence add said %q", id)
	}
	o.want("the fan is on its way", "silence", "query")
	o.wantNot("Hot", "alert", "query")
	o.want("Hot", "alert", "query", "--silenced")

	if err := serve.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	serve.Wait()
	if serve, o.address, err = c.start(t.Output()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		serve.Process.Kill()
		serve.Wait()
	}()
	o.want(id, "silence", "query", "-q")
	o.do("silence", "expire", id)
	o.wantNot(id, "silence", "query", "-q")
	o.want(id, "silence", "query", "-q", "--expired")
}
