// Package storagetest serves the tests of stores: it opens stores, makes rows, and starts vanilla
// VictoriaMetrics servers.
package storagetest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Vanilla is a VictoriaMetrics single node as its makers build it, in a process of its own.
type Vanilla struct {
	URL  string
	Dir  string
	addr string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed once its output has ended
}

// vanillaProgram builds the server from the module in go.mod, beside the other programs that tests use.
var vanillaProgram = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "bramble-ci", "victoria-metrics")
	out, err := exec.Command("go", "build", "-o", path, "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the vanilla server: %w\n%s", err, out)
	}
	return path, nil
})

// NewVanilla chooses an address and a directory and starts nothing.
func NewVanilla(t testing.TB, args ...string) *Vanilla {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return &Vanilla{URL: "http://" + addr, Dir: t.TempDir(), addr: addr, args: args}
}

// StartVanilla starts a server that deduplicates.
func StartVanilla(t testing.TB, args ...string) *Vanilla {
	t.Helper()
	v := NewVanilla(t, append([]string{"-dedup.minScrapeInterval=1ms"}, args...)...)
	v.Start(t)
	return v
}

// Start returns when the server answers. The test's end kills it.
func (v *Vanilla) Start(t testing.TB) {
	t.Helper()
	program, err := vanillaProgram()
	if err != nil {
		t.Fatal(err)
	}
	v.cmd = exec.Command(program, append([]string{
		"-storageDataPath=" + v.Dir, "-httpListenAddr=" + v.addr, "-retentionPeriod=2y",
	}, v.args...)...)
	stderr, err := v.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Kill)
	started := make(chan struct{})
	done := make(chan struct{})
	v.done = done
	go func() {
		defer close(done)
		ready := sync.OnceFunc(func() { close(started) })
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "started server at") {
				ready()
			}
		}
	}()
	select {
	case <-started:
	case <-done:
		t.Fatal("the vanilla server has ended")
	case <-time.After(2 * time.Minute):
		t.Fatal("the vanilla server does not start")
	}
}

// Kill ends the server with SIGKILL and waits for its end. Killing twice is harmless.
func (v *Vanilla) Kill() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill() // it may have ended
	<-v.done
	_ = v.cmd.Wait()
	v.cmd = nil
}

// Show makes the server's rows visible to queries.
func (v *Vanilla) Show(t testing.TB) { v.Get(t, "/internal/force_flush") }

// Get returns the body of an answer.
func (v *Vanilla) Get(t testing.TB, path string) string {
	t.Helper()
	resp, err := http.Get(v.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %v: %s", path, resp.Status, err, body)
	}
	return string(body)
}

// CPUSeconds returns the CPU time of the server.
func (v *Vanilla) CPUSeconds(b testing.TB) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.cmd.Process.Pid))
	if err != nil {
		b.Skip("no CPU time of another process here: ", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100 // USER_HZ
}

// Gauges adds up the samples of the server's /metrics that begin with one of the prefixes.
func (v *Vanilla) Gauges(b testing.TB, prefixes ...string) (sum float64) {
	b.Helper()
	for line := range strings.Lines(v.Get(b, "/metrics")) {
		for _, p := range prefixes {
			if rest, ok := strings.CutPrefix(line, p); ok {
				_, value, _ := strings.Cut(rest, " ")
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					b.Fatal(line, err)
				}
				sum += n
			}
		}
	}
	return sum
}

// CPUSeconds returns the CPU time of this process.
func CPUSeconds(t testing.TB) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
