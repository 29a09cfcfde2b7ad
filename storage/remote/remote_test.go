package remote_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"bramble/storage"
	"bramble/storage/remote"
	"bramble/storage/storagetest"
)

// opened is a remote store with its metrics and its log.
type opened struct {
	*remote.Store
	registry *prometheus.Registry
	log      *lines
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t testing.TB, o remote.Options) opened {
	t.Helper()
	return openBy(t, o, remote.Open)
}

func openBy(t testing.TB, o remote.Options, open func(remote.Options) (*remote.Store, error)) opened {
	t.Helper()
	r := opened{registry: prometheus.NewRegistry(), log: &lines{}}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Registerer, o.Log = r.registry, slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.Store, err = open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// patience ends a test that hangs. A machine that is busy with other tests may take a minute for a second's work.
const patience = 2 * time.Minute

// eventually waits until something has come true.
func eventually(t testing.TB, within time.Duration, what string, true func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !true(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// metric returns a gauge or counter of the store, and whether there is one.
func (r opened) metric(t testing.TB, name string) (float64, bool) {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue(), true
		}
	}
	return 0, false
}

// drained returns when the server has taken all that was added.
func (r opened) drained(t testing.TB) {
	t.Helper()
	if err := r.Barrier(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the server takes all that is queued", func() bool {
		waiting, ok := r.metric(t, "bramble_remote_queue_rows_waiting")
		return ok && waiting == 0
	})
}

func (r opened) count(t testing.TB, board string, at time.Time) int {
	t.Helper()
	found, err := r.Query(context.Background(), `count_over_time(pi_soc_temperature_celsius{board="`+board+`"}[3d])`, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return 0
	}
	return int(found[0].Values[0])
}

func TestRemoteThatIsAwayLosesNothing(t *testing.T) {
	t.Parallel()
	v := storagetest.NewVanilla(t, "-dedup.minScrapeInterval=1ms")
	dir, start := t.TempDir(), storagetest.AnHourAgo().Add(-time.Hour)
	r := open(t, remote.Options{Dir: dir, Write: v.URL})
	for i := range 10 {
		if err := r.Add(storagetest.Rows(storagetest.Temperature("b1"), start.Add(time.Duration(i)*100*time.Second), 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Barrier(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the store says that the server is away", func() bool { return r.Err() != nil })
	if up, _ := r.metric(t, "bramble_remote_up"); up != 0 {
		t.Errorf("bramble_remote_up is %v", up)
	}
	if _, err := r.Query(context.Background(), "1", time.Now()); err == nil {
		t.Error("a query was answered")
	}
	if status, _, body := storagetest.Get(t, storagetest.Serve(t, r)+"/api/v1/query?query=1"); status != http.StatusBadGateway || !strings.Contains(body, "does not answer") {
		t.Errorf("over HTTP: %d %s", status, body)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, remote.Options{Dir: dir, Write: v.URL}) // the collector restarts meanwhile
	v.Start(t)
	r.drained(t)
	v.Show(t)
	if got := r.count(t, "b1", start.Add(time.Hour)); got != 1000 {
		t.Errorf("%d rows, want 1000", got)
	}
	eventually(t, patience, "the store says that all is well", func() bool { return r.Err() == nil })
}

// TestRemoteThatIsKilledLosesNothing kills the server at random moments under load, and once more after the queue has
// forgotten rows.
func TestRemoteThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	args, open := []string{"-inmemoryDataFlushInterval=1s"}, remote.OpenKeeping(time.Second) // the interval tells how long rows are kept: 12 s
	if os.Getenv("BRAMBLE_ENDURANCE") == "1" {
		args, open = nil, remote.Open // a minute
	}
	v := storagetest.StartVanilla(t, args...)
	r := openBy(t, remote.Options{Write: v.URL}, open)
	start := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	stop, written := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { written <- n }()
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if err := r.Add(storagetest.Rows(storagetest.Temperature("b1"), start.Add(time.Duration(n)*time.Second), 20)); err != nil {
				t.Error(err)
				return
			}
			n += 20
		}
	}()
	sent := func() float64 { n, _ := r.metric(t, "bramble_remote_rows_sent_total"); return n }
	resends := func() float64 { n, _ := r.metric(t, "bramble_remote_resends_total"); return n }
	for range storagetest.Kills(5) { // two that fall between two looks at the server are noticed as one
		had := sent()
		eventually(t, patience, "the server takes rows", func() bool { return sent() > had })
		<-time.After(rand.N(4 * time.Second))
		v.Kill()
		<-time.After(rand.N(time.Second))
		v.Start(t)
	}
	r.drained(t) // and more since
	size, _ := r.metric(t, "bramble_remote_queue_bytes")
	eventually(t, 2*patience, "the queue forgets what the server has on disk", func() bool {
		now, _ := r.metric(t, "bramble_remote_queue_bytes")
		done := now < size
		size = max(size, now)
		return done
	})
	noticed := resends()
	if noticed == 0 {
		t.Error("the kills missed: nothing was sent again")
	}
	v.Kill()
	close(stop)
	n := <-written
	v.Start(t)
	eventually(t, patience, "the restart is noticed", func() bool { return resends() > noticed && r.Err() == nil })
	r.drained(t)
	eventually(t, patience, "all rows are there", func() bool { v.Show(t); return r.count(t, "b1", start.Add(60*time.Hour)) >= n })
	if got := r.count(t, "b1", start.Add(60*time.Hour)); got != n {
		t.Errorf("%d rows, want %d", got, n)
	}
}

func TestRemoteSaysWhatItCannotPromise(t *testing.T) {
	t.Parallel()
	plain := storagetest.NewVanilla(t)
	plain.Start(t)
	coarse := storagetest.NewVanilla(t, "-dedup.minScrapeInterval=30s")
	coarse.Start(t)
	good := storagetest.StartVanilla(t)
	to, err := url.Parse(good.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(to)
	hidden := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.NotFound(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer hidden.Close()
	for name, c := range map[string]struct {
		url, says      string
		visible, dedup float64
	}{
		"no deduplication":     {plain.URL, "does not deduplicate", 1, 0},
		"coarse deduplication": {coarse.URL, "more than a millisecond", 1, 0},
		"hidden":               {hidden.URL, "restart of the remote store cannot be seen", 0, -1},
		"good":                 {good.URL, "", 1, 1},
	} {
		r := open(t, remote.Options{Write: c.url})
		if err := r.Add(storagetest.Rows(storagetest.Temperature(name), storagetest.AnHourAgo(), 10)); err != nil {
			t.Fatal(err)
		}
		r.drained(t)
		visible, _ := r.metric(t, "bramble_remote_restarts_visible")
		dedup, known := r.metric(t, "bramble_remote_deduplicates")
		if !known {
			dedup = -1
		}
		if visible != c.visible || dedup != c.dedup {
			t.Errorf("%s: restarts visible %v, deduplicates %v", name, visible, dedup)
		}
		if warned := strings.Contains(r.log.String(), "level=WARN"); warned != (c.says != "") || !strings.Contains(r.log.String(), c.says) {
			t.Errorf("%s: %s", name, r.log)
		}
	}
}

func TestRemoteIsAskedWithItsOwnCredentials(t *testing.T) {
	t.Parallel()
	v := storagetest.StartVanilla(t)
	to, err := url.Parse(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s with %q and cookie %q", r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		forward.ServeHTTP(w, r)
		w.Header().Set("Set-Cookie", "a=b")
	}))
	defer front.Close()
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := errors.Join(os.WriteFile(file, []byte("s3cret\n"), 0o600), os.WriteFile(ca, authority, 0o600)); err != nil {
		t.Fatal(err)
	}
	client := promconfig.HTTPClientConfig{Authorization: &promconfig.Authorization{Type: "Bearer", CredentialsFile: file}}
	distrusts := open(t, remote.Options{Write: front.URL, Client: client})
	eventually(t, patience, "an unknown CA is refused", func() bool {
		return distrusts.Err() != nil && strings.Contains(distrusts.Err().Error(), "certificate")
	})
	client.TLSConfig.CAFile = ca
	r := open(t, remote.Options{Write: front.URL, Client: client})
	now := storagetest.AnHourAgo()
	if err := r.Add(storagetest.Rows(storagetest.Temperature("b1"), now, 1)); err != nil {
		t.Fatal(err)
	}
	r.drained(t)
	v.Show(t)
	if got := r.count(t, "b1", now); got != 1 {
		t.Errorf("%d rows", got)
	}
	request, err := http.NewRequest(http.MethodGet, storagetest.Serve(t, r)+"/api/v1/query?query=vector(1)", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer bra1.a-person's.own")
	request.Header.Set("Cookie", "bramble=session")
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s, cookie %q", resp.Status, resp.Header.Get("Set-Cookie"))
	}
}

func TestRemoteWithAFullDiskRefusesRows(t *testing.T) {
	r := open(t, remote.Options{Write: "http://127.0.0.1:1", MinFreeBytes: 1 << 60})
	if err := r.Add(storagetest.Rows(storagetest.Temperature("b1"), storagetest.AnHourAgo(), 1)); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("error %v", err)
	}
	if full, _ := r.metric(t, "bramble_storage_read_only"); full != 1 {
		t.Errorf("bramble_storage_read_only is %v", full)
	}
}

func TestRemoteOptionsThatAreRefused(t *testing.T) {
	for want, o := range map[string]remote.Options{
		`"" is not a base URL`:               {},
		`"victoria:8428" is not a base URL`:  {Write: "victoria:8428"},
		`"ftp://victoria" is not a base URL`: {Write: "ftp://victoria"},
		`"http://v?a=b" is not a base URL`:   {Write: "http://victoria", Read: "http://v?a=b"},
		`holds credentials`:                  {Write: "http://me:secret@victoria"},
		`keep 5s is too short`:               {Write: "http://victoria", Keep: 5 * time.Second},
		`"x" is not a base URL`:              {Write: "http://victoria", Nodes: []string{"x"}},
	} {
		o.Dir = t.TempDir()
		_, err := remote.Open(o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: error %v, want %s", o, err, want)
		}
	}
}

func TestRemoteQueueAfterACrash(t *testing.T) {
	dir, start := t.TempDir(), storagetest.AnHourAgo()
	o := remote.Options{Dir: dir, Write: "http://127.0.0.1:1"}
	fill := func(board string) (file string, whole []byte) {
		t.Helper()
		r := open(t, o)
		for i := range 3 { // a request each
			if err := errors.Join(r.Add(storagetest.Rows(storagetest.Temperature(fmt.Sprint(board, i)), start, 100)), r.Barrier()); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.queue"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		file = files[len(files)-1]
		if whole, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		return file, whole
	}
	first, whole := fill("a")
	for cut := range whole {
		others, err := filepath.Glob(filepath.Join(dir, "*.queue"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range others {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(first, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := remote.Open(o)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(first, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	fill("b") // first is not the last file any more
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 1
	if err := os.WriteFile(first, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Open(o); err == nil || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), "offset") {
		t.Errorf("error %v, want one that names %s and an offset", err, first)
	}
}
