package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bramble/collector/admin"
)

// server is a `collector serve` that can be killed and started again on the
// same addresses and data.
type server struct {
	*process
	t          testing.TB
	dir        string
	http, nats string // addresses
	args       []string
	under      []string // a program that starts it, such as one that sets a limit; nil for none
	bearer     string   // an admin's API token
}

// newServer prepares a data directory and free ports on a host, and starts.
func newServer(t testing.TB, host string, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, host), nats: freeAddress(t, host), args: args}
	s.found()
	s.start()
	return s
}

// foundation is the state of a collector that knows an admin's API token and nothing else.
type foundation struct {
	state  []byte
	bearer string
}

// founded makes a foundation once for all tests.
var founded = sync.OnceValues(func() (f foundation, err error) {
	dir, err := os.MkdirTemp(programs, "foundation-")
	if err != nil {
		return f, err
	}
	token, err := exec.Command(filepath.Join(programs, "collector"), "token", "create", "--role", "admin", "--data-dir", dir).Output()
	if err != nil {
		return f, fmt.Errorf("create a token: %w", err)
	}
	f.bearer = strings.TrimSpace(string(token))
	f.state, err = os.ReadFile(filepath.Join(dir, "state.db"))
	return f, err
})

// found gives the server a data directory with an admin's token. Its CA is its own.
func (s *server) found() {
	s.t.Helper()
	program(s.t, "collector")
	f, err := founded()
	if err == nil {
		err = errors.Join(os.MkdirAll(s.dir, 0o700), os.WriteFile(filepath.Join(s.dir, "state.db"), f.state, 0o600))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.bearer = f.bearer
}

// Ports from below those that the kernel gives to connections (Linux begins at 32768, others higher): a port that is free there
// stays free until a server that a test starts, or starts again, listens on it. The tests of pisensor and dashboards, which
// run at the same time, take others.
const firstPort, ports = 10_000, 14_000

// handedOut counts on from one port to the next, so that no two servers of a run get the same one.
var handedOut = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(ports)) // another run may be at work beside this one
	return &n
}()

// freeAddress returns an address that nobody listens on, and that no connection will take meanwhile.
func freeAddress(t testing.TB, host string) string {
	t.Helper()
	var l net.Listener
	var err error
	for range ports {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(firstPort+int(handedOut.Add(1)%ports))))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal(err)
	return ""
}

func (s *server) start() {
	s.t.Helper()
	s.process = spawn(s.t, slices.Concat(s.under, []string{program(s.t, "collector"), "serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args)...)
	if got, want := s.says(s.t, s.out, "ready "), s.url(); got != want {
		s.t.Errorf("ready %q, want %q", got, want)
	}
}

func (s *server) url() string { return "http://" + s.http + "/" }

// do runs an admin command on the server's data and returns its stdout. Tests prepare themselves with it: while the server
// runs, commands about boards, users and tokens go through its control socket without a process of their own.
func (s *server) do(stdin string, args ...string) string {
	s.t.Helper()
	if s.runs() && ours(s.dir) && slices.Contains([]string{"board", "user", "token"}, args[0]) {
		return s.control(stdin, args)
	}
	a := s.try(stdin, args...)
	if a.code != 0 {
		s.t.Fatalf("collector %v: exit %d: %s", args, a.code, a.errs)
	}
	return strings.TrimSuffix(a.out, "\n")
}

// ours reports whether a directory is of the user that runs the tests: on another's data, root would act as that user for good.
func ours(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}

// control runs an admin command in the server that runs.
func (s *server) control(stdin string, args []string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	err := admin.Dispatch(ctx, s.dir, args, strings.NewReader(stdin), &out, &errs, func() (admin.State, func(), error) {
		return admin.State{}, nil, errors.New("the server does not answer on its control socket")
	})
	if err != nil {
		s.t.Fatalf("collector %v: %v: %s", args, err, &errs)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func (s *server) try(stdin string, args ...string) answer {
	s.t.Helper()
	return command(s.t, stdin, "collector", append(args, "--data-dir", s.dir)...)
}

// request sends a request with the server's token.
func (s *server) request(method, path string, body []byte) (int, []byte, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url()+strings.TrimPrefix(path, "/"), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if s.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+s.bearer)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return response.StatusCode, b, err
}

func (s *server) get(path string) ([]byte, error) {
	code, b, err := s.request(http.MethodGet, path, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("GET %s: %d %s", path, code, b)
	}
	return b, err
}

// json gets a document.
func (s *server) json(path string, into any) error {
	b, err := s.get(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("GET %s: %w: %s", path, err, b)
	}
	return nil
}

// metric returns a sample of the server's own /metrics, 0 where it is not there.
func (s *server) metric(series string) float64 {
	s.t.Helper()
	b, err := s.get("metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// rejected is bramble_reports_rejected_total of a reason.
func (s *server) rejected(reason string) float64 {
	s.t.Helper()
	return s.metric(fmt.Sprintf("bramble_reports_rejected_total{reason=%q}", reason))
}

// stored is one series as /api/v1/export has it.
type stored struct {
	Metric     map[string]string `json:"metric"`
	Values     []float64         `json:"values"`
	Timestamps []int64           `json:"timestamps"`
}

// export returns all raw samples of a selector. raw leaves out deduplication.
func (s *server) export(selector string, raw bool) ([]stored, error) {
	q := url.Values{"match[]": {selector}, "start": {"-3y"}, "end": {strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)}}
	if raw {
		q.Set("reduce_mem_usage", "1")
	}
	b, err := s.get("api/v1/export?" + q.Encode())
	if err != nil {
		return nil, err
	}
	var all []stored
	for line := range bytes.Lines(b) {
		var one stored
		if err := json.Unmarshal(line, &one); err != nil {
			return nil, fmt.Errorf("export: %w: %s", err, line)
		}
		all = append(all, one)
	}
	return all, nil
}

// queryRange returns the answer of /api/v1/query_range, by the time in Unix ms.
func (s *server) queryRange(expr string, start, end time.Time, step time.Duration) ([]map[int64]float64, error) {
	q := url.Values{"query": {expr}, "start": {unixText(start)}, "end": {unixText(end)}, "step": {step.String()}, "nocache": {"1"}}
	var a struct {
		Status string `json:"status"`
		Data   struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := s.json("api/v1/query_range?"+q.Encode(), &a); err != nil {
		return nil, err
	}
	var all []map[int64]float64
	for _, r := range a.Data.Result {
		points := map[int64]float64{}
		for _, v := range r.Values {
			at, okAt := v[0].(float64)
			value, okValue := v[1].(string)
			f, err := strconv.ParseFloat(value, 64)
			if !okAt || !okValue || err != nil {
				return nil, fmt.Errorf("query_range %s: point %v", expr, v)
			}
			points[int64(at*1000+0.5)] = f
		}
		all = append(all, points)
	}
	return all, nil
}

func unixText(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}
