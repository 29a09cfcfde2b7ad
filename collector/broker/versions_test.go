package broker

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// versions are those of nats.go, of three years, whose clients the door serves.
var versions = []string{"v1.31.0", "v1.36.0", "v1.41.0", "v1.47.0"}

// TestClientsOfThreeYears builds a client with each version of nats.go, and lets it in by both doors.
func TestClientsOfThreeYears(t *testing.T) {
	if os.Getenv("BRAMBLE_ENDURANCE") != "1" {
		t.Skip("endurance: set BRAMBLE_ENDURANCE=1; it fetches and builds four versions of a library")
	}
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	seed, err := pair.Seed()
	r.must(err)
	_, err = r.Conn().Subscribe(report.AllTelemetry, func(m *nats.Msg) { _ = r.Conn().Publish("ack.b1", m.Data) })
	r.must(err)
	r.must(r.Conn().Flush())
	for _, version := range versions {
		program := buildClient(t, version)
		for _, url := range []string{r.URL(), r.WebSocketURL()} {
			t.Run(version+" "+url[:3], func(t *testing.T) {
				var log bytes.Buffer
				cmd := exec.Command(program, url, string(seed))
				cmd.Stderr = &log
				in, err := cmd.StdinPipe()
				r.must(err)
				out, err := cmd.StdoutPipe()
				r.must(err)
				r.must(cmd.Start())
				lines := bufio.NewReader(out)
				line, _ := lines.ReadString('\n')
				if line == "ready\n" {
					r.Disconnect("b1")
					_, err := io.WriteString(in, "cut\n")
					r.must(err)
					line, _ = lines.ReadString('\n')
				}
				if err := cmd.Wait(); err != nil || !strings.HasPrefix(line, "done with nats.go "+strings.TrimPrefix(version, "v")) {
					t.Errorf("%q, %v\n%s", line, err, &log)
				}
			})
		}
	}
}

// buildClient builds testdata/client in a module of its own.
func buildClient(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile("testdata/client/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mod", "init", "client"}, {"get", "github.com/nats-io/nats.go@" + version}, {"mod", "tidy"}, {"build", "-o", "client", "."},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return filepath.Join(dir, "client")
}
