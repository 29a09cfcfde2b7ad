package backup

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"

	"bramble/collector/registry"
)

const (
	// bucketEnv makes the test binary an S3 server, so that its memory is not the test's, and names the file that its
	// certificate is written to.
	bucketEnv  = "BRAMBLE_BACKUP_BUCKET"
	testBucket = "racks"
)

// serveBucket serves a bucket in memory until stdin ends, and says where on stdout.
func serveBucket() {
	backend := s3mem.New()
	server := httptest.NewTLSServer(gofakes3.New(backend).Server())
	if err := errors.Join(backend.CreateBucket(testBucket), os.WriteFile(os.Getenv(bucketEnv), certificate(server), 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// s3 is an S3 server with one bucket.
type s3 struct {
	*s3mem.Backend
	url string
	ca  string // file

	mu   sync.Mutex
	puts []string // objects in the order in which they were written, parts without their number
	// fault answers a request in the server's place when it returns true.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newS3(t testing.TB) *s3 {
	t.Helper()
	s := &s3{Backend: s3mem.New()}
	if err := s.CreateBucket(testBucket); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(s.Backend).Server()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		fault := s.fault
		if r.Method == http.MethodPut {
			s.puts = append(s.puts, strings.TrimPrefix(r.URL.Path, "/"+testBucket+"/"))
		}
		s.mu.Unlock()
		if fault == nil || !fault(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.url, s.ca = server.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, certificate(server), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "a-key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "its-secret")
	return s
}

func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func (s *s3) breakWith(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) bool {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, code)
	return true
}

func (s *s3) config(prefix string) Config {
	return Config{Target: bucketScheme + path.Join(testBucket, prefix), S3: S3{Endpoint: s.url, CA: s.ca}}
}

// objects lists the bucket's objects.
func (s *s3) objects(t testing.TB) (keys []string) {
	t.Helper()
	all, err := s.ListBucket(testBucket, nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all.Contents {
		keys = append(keys, o.Key)
	}
	return keys
}

func (s *s3) put(t testing.TB, key string, data []byte) {
	t.Helper()
	if _, err := s.PutObject(testBucket, key, map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}, bytes.NewReader(data), int64(len(data)), nil); err != nil {
		t.Fatal(err)
	}
}

func (s *s3) get(t testing.TB, key string) []byte {
	t.Helper()
	o, err := s.GetObject(testBucket, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Contents.Close()
	data, err := io.ReadAll(o.Contents)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestABackupInABucketRestoresAsTheOriginal(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	c.fill(t, 20, 500)
	large := filepath.Join(t.TempDir(), "large.rules.yml") // goes up in parts
	if err := os.WriteFile(large, bytes.Repeat([]byte("# a rule\n"), 2_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Files = func() Files { return Files{Rules: []string{large}} }
	if err := c.boards.AddBoard(t.Context(), "b0", nil); err != nil {
		t.Fatal(err)
	}
	k := c.keeper(t, s.config("site-1/bramble"))
	m := create(t, k)
	if !m.Good() || m.State != (registry.Contents{Boards: 1}) || m.Series != 20 || m.Rows != 20*500 {
		t.Errorf("manifest: %+v", m)
	}
	location := "s3://racks/site-1/bramble/" + m.Name
	if got := k.LocationOf(m.Name); got != location {
		t.Errorf("it lies at %s", got)
	}
	keys := s.objects(t)
	if len(keys) != len(m.Files)+1 || slices.ContainsFunc(keys, func(k string) bool { return !strings.HasPrefix(k, "site-1/bramble/"+m.Name+"/") }) {
		t.Errorf("%d files, the bucket holds %v", len(m.Files), keys)
	}
	manifest := "site-1/bramble/" + m.Name + "/" + manifestName
	s.mu.Lock()
	if first := slices.Index(s.puts, manifest); first < 0 || slices.ContainsFunc(s.puts[first:], func(k string) bool { return k != manifest }) {
		t.Errorf("the manifest is not the last: %v", s.puts)
	}
	s.mu.Unlock()
	for _, name := range names(t, c.DataDir) {
		if strings.HasPrefix(name, ".") && name != ".lock" {
			t.Errorf("%s is left in the data directory", name)
		}
	}
	all, err := k.List(t.Context())
	if err != nil || len(all) != 1 || !all[0].Good() || all[0].Location != location {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := k.Verify(t.Context(), ""); err != nil {
		t.Error(err)
	}
	found, err := Find(t.Context(), Config{S3: k.config.S3}, location, time.Time{})
	if err != nil || found.Err != nil || found.Name != m.Name {
		t.Fatalf("found %+v, %v", found, err)
	}
	to := t.TempDir()
	if _, err := (Restore{Backup: found.Location, S3: k.config.S3, DataDir: to, Key: k.Key(), Child: checker(t)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := newCollector(t, to)
	if r.Pin != c.Pin {
		t.Error("the CA is another one")
	}
	for _, expr := range []string{`sum by (board) (sum_over_time(pi_load1[1d]))`, `count(count_over_time(pi_load1[1d]))`} {
		a, errA := c.Store.Query(t.Context(), expr, time.Now())
		b, errB := r.Store.Query(t.Context(), expr, time.Now())
		if errA != nil || errB != nil || len(a) == 0 || fmt.Sprint(values(a)) != fmt.Sprint(values(b)) {
			t.Errorf("%s: %v and %v (%v, %v)", expr, values(a), values(b), errA, errB)
		}
	}
}

// TestEveryDamageInABucketIsCaught changes every object of a backup: each of the first and last bytes, and some
// between them, is flipped, removed and the end of the object.
func TestEveryDamageInABucketIsCaught(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	c.fill(t, 8, 60)
	k := c.keeper(t, s.config(""))
	m := create(t, k)
	p, err := k.place()
	if err != nil {
		t.Fatal(err)
	}
	shelf := p.at(m.Name)
	dir := quick(t)
	// The checks that the checking process makes of one file, before it opens anything.
	read := func(name string) error {
		m, err := readManifest(t.Context(), shelf)
		if err != nil || name == manifestName {
			return err
		}
		m.Files = slices.DeleteFunc(m.Files, func(f FileSum) bool { return f.Path != name })
		scratch := filepath.Join(dir, "restored")
		return errors.Join(Job{Scratch: scratch}.stage(t.Context(), shelf, m), os.RemoveAll(scratch))
	}
	cases, files := 0, []string{manifestName}
	for _, f := range m.Files {
		files = append(files, f.Path)
	}
	for _, name := range files {
		if err := read(name); err != nil {
			t.Fatalf("%s as it was: %v", name, err)
		}
		key := m.Name + "/" + name
		whole := s.get(t, key)
		for _, at := range positions(len(whole), bytesOfEach()) {
			for what, damage := range damages {
				cases++
				s.put(t, key, damage(bytes.Clone(whole), at))
				if read(name) == nil {
					t.Errorf("%s: byte %d %s: not caught", name, at, what)
				}
			}
		}
		cases += 2
		s.put(t, key, append(bytes.Clone(whole), 0))
		if read(name) == nil {
			t.Errorf("%s longer: not caught", name)
		}
		if _, err := s.DeleteObject(testBucket, key); err != nil {
			t.Fatal(err)
		}
		if err := read(name); err == nil || errors.Is(err, errUnreachable) {
			t.Errorf("%s gone: %v", name, err)
		}
		s.put(t, key, whole)
	}
	t.Logf("%d cases in %d objects", cases, len(files))
	s.put(t, m.Name+"/"+stateFile, []byte("damaged"))
	if _, err := k.Verify(t.Context(), m.Name); err == nil || !strings.Contains(err.Error(), "the manifest says") {
		t.Errorf("verify: %v", err)
	}
	if all, err := k.List(t.Context()); err != nil || len(all) != 1 || all[0].Good() {
		t.Errorf("a damaged backup counts as good: %+v, %v", all, err)
	}
}

func TestAnInterruptedUploadLeavesNothing(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	c.fill(t, 8, 60)
	k := c.keeper(t, s.config("p"))
	f := func(wanted string, fault func(n int, w http.ResponseWriter) bool) {
		t.Helper()
		n := 0
		s.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodPost {
				return false
			}
			n++
			return fault(n, w)
		})
		_, err := k.Create(t.Context())
		s.breakWith(nil)
		if wanted == "" {
			if err != nil {
				t.Error(err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), wanted) || !strings.Contains(err.Error(), "bucket "+testBucket+" at "+s.url) {
			t.Errorf("%v, want %q", err, wanted)
		}
		if keys := s.objects(t); len(keys) > 0 {
			t.Errorf("the bucket holds %v", keys)
		}
		for _, name := range names(t, c.DataDir) {
			if strings.HasPrefix(name, ".") && name != ".lock" {
				t.Errorf("%s is left in the data directory", name)
			}
		}
	}
	f("may they list, read, write and delete", func(n int, w http.ResponseWriter) bool {
		return n > 5 && refuse(w, http.StatusForbidden, "AccessDenied")
	})
	f("free some space there", func(n int, w http.ResponseWriter) bool {
		return n > 3 && refuse(w, http.StatusInsufficientStorage, "QuotaExceeded")
	})
	f("reachable from here?", func(n int, w http.ResponseWriter) bool {
		if n <= 7 {
			return false
		}
		hijacked, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return false
		}
		hijacked.Close()
		return true
	})
	// A store that is busy now and then.
	f("", func(n int, w http.ResponseWriter) bool {
		return n%4 == 2 && refuse(w, http.StatusServiceUnavailable, "SlowDown")
	})
}

// TestARefusedBodyIsLetGo: net/http may read a body after its answer, and the next try winds the same reader back.
func TestARefusedBodyIsLetGo(t *testing.T) {
	var kept io.ReadCloser
	transport := letGo{roundTripper(func(r *http.Request) (*http.Response, error) {
		kept = r.Body
		if _, err := io.CopyN(io.Discard, r.Body, 3); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
	})}
	content := strings.NewReader("content")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://bucket", content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(r); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(kept); len(rest) > 0 || err != nil || content.Len() != 4 {
		t.Errorf("%q, %v was read after the answer, %d bytes are left; want 4", rest, err, content.Len())
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRemainsOfAKilledUploadAreRemoved(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	k := c.keeper(t, s.config("p"))
	old, young := "2020-01-01T000000.000Z", time.Now().Add(-time.Minute).UTC().Format(nameLayout)
	s.put(t, "p/"+old+"/series/x", []byte("x"))
	s.put(t, "p/"+young+"/series/x", []byte("x")) // another process may be writing it
	s.put(t, "p/notes.txt", []byte("mine"))
	p, err := k.place()
	if err != nil {
		t.Fatal(err)
	}
	client := p.(*bucket).client
	for _, key := range []string{"p/" + old + "/series/large", "p/" + young + "/series/large"} {
		if _, err := (minio.Core{Client: client}).NewMultipartUpload(t.Context(), testBucket, key, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.put(t, "elsewhere/"+old+"/series/x", []byte("x"))
	m := create(t, k)
	all, err := k.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != m.Name {
		t.Errorf("list: %+v, %v", all, err)
	}
	var uploads, others []string
	for u := range client.ListIncompleteUploads(t.Context(), testBucket, "p/", true) {
		uploads = append(uploads, fmt.Sprint(u.Key, u.Err))
	}
	if want := []string{"p/" + young + "/series/large<nil>"}; !slices.Equal(uploads, want) {
		t.Errorf("uploads in parts: %v, want %v", uploads, want)
	}
	for _, key := range s.objects(t) {
		if !strings.Contains(key, m.Name) {
			others = append(others, key)
		}
	}
	if want := []string{"elsewhere/" + old + "/series/x", "p/" + young + "/series/x", "p/notes.txt"}; !slices.Equal(others, want) {
		t.Errorf("the bucket holds %v, want %v", others, want)
	}
}

func TestPruneRemovesFromTheBucket(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	config := s.config("p")
	config.Keep = Keep{Daily: 1}
	k := c.keeper(t, config)
	create(t, k)
	second := create(t, k)
	if err := k.prune(t.Context(), second.Taken.Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, key := range s.objects(t) {
		if !strings.HasPrefix(key, "p/"+second.Name+"/") {
			t.Errorf("%s is left", key)
		}
	}
	if all, err := k.List(t.Context()); err != nil || len(all) != 1 || !all[0].Good() {
		t.Errorf("list: %+v, %v", all, err)
	}
}

// TestABucketThatDoesNotAnswerCondemnsNoBackup wants the next step in each error.
func TestABucketThatDoesNotAnswerCondemnsNoBackup(t *testing.T) {
	s := newS3(t)
	c := newCollector(t, t.TempDir())
	c.fill(t, 2, 10)
	k := c.keeper(t, s.config("p"))
	m := create(t, k)
	s.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, stateFile) && refuse(w, http.StatusForbidden, "AccessDenied")
	})
	if _, err := k.Verify(t.Context(), m.Name); !errors.Is(err, ErrNotTested) || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("verify: %v", err)
	}
	s.breakWith(nil)
	if all, err := k.List(t.Context()); err != nil || len(all) != 1 || !all[0].Good() {
		t.Errorf("list: %+v, %v", all, err)
	}
	f := func(config Config, wanted ...string) {
		t.Helper()
		_, err := c.keeper(t, config).Create(t.Context())
		for _, w := range wanted {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want %q", err, w)
			}
		}
	}
	f(Config{Target: "s3://nowhere/p", S3: S3{Endpoint: s.url, CA: s.ca}}, "bucket nowhere at "+s.url, "make the bucket")
	f(Config{Target: "s3://racks", S3: S3{Endpoint: s.url}}, "certificate", "s3: {ca: FILE}")
	f(Config{Target: "s3://racks", S3: S3{Endpoint: s.url, CA: os.Args[0]}}, "holds no certificate")
	f(Config{Target: "s3://", S3: S3{Endpoint: s.url, CA: s.ca}}, "names no bucket", "s3://BUCKET/PREFIX")
	f(Config{Target: "s3://racks", S3: S3{Endpoint: "s3.example.org"}}, "is not a URL such as https://")
	missing := filepath.Join(t.TempDir(), "keys")
	f(Config{Target: "s3://racks", S3: S3{Endpoint: s.url, CA: s.ca, Credentials: missing}}, "no access key in "+missing)
	if err := os.WriteFile(missing, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	f(Config{Target: "s3://racks", S3: S3{Endpoint: s.url, CA: s.ca}}, "no access key in AWS_ACCESS_KEY_ID")
	create(t, c.keeper(t, Config{Target: "s3://racks/q", S3: S3{Endpoint: s.url, CA: s.ca, Credentials: missing}}))
	s.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
		return refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
	})
	f(Config{Target: "s3://racks", S3: S3{Endpoint: s.url, CA: s.ca, Credentials: missing}}, "are the keys of "+missing+" right")
}

func TestLocations(t *testing.T) {
	f := func(location, target, name string, located bool) {
		t.Helper()
		if gotTarget, gotName, got := SplitLocation(location); gotTarget != target || gotName != name || got != located {
			t.Errorf("%s is %q, %q, %v", location, gotTarget, gotName, got)
		}
	}
	f("s3://racks/site-1/bramble/"+nameLayout, "s3://racks/site-1/bramble", nameLayout, true)
	f("s3://racks/"+nameLayout+"/", "s3://racks", nameLayout, true)
	f("/mnt/nas/"+nameLayout+"/", "/mnt/nas", nameLayout, true)
	f("backups/"+nameLayout, "backups", nameLayout, true)
	f(nameLayout, "", nameLayout, false)
}

// BenchmarkBackupToABucket writes 25 million rows into a bucket on this machine and restores them from it in a test.
// parent-MB is the growth of the collector's own process.
func BenchmarkBackupToABucket(b *testing.B) {
	server := exec.CommandContext(b.Context(), os.Args[0])
	ca := filepath.Join(b.TempDir(), "ca.pem")
	server.Env = append(os.Environ(), bucketEnv+"="+ca)
	alive, errIn := server.StdinPipe()
	out, errOut := server.StdoutPipe()
	if err := errors.Join(errIn, errOut, server.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { alive.Close(); _ = server.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv("AWS_ACCESS_KEY_ID", "a-key")
	b.Setenv("AWS_SECRET_ACCESS_KEY", "its-secret")
	c := newCollector(b, b.TempDir())
	c.warm(b, 2500, 10_000)
	if err := c.Store.Barrier(); err != nil {
		b.Fatal(err)
	}
	before, peak := anonymous(), watchPeak()
	k := New(Config{Target: "s3://" + testBucket, S3: S3{Endpoint: strings.TrimSpace(url), CA: ca}}, c.Source, checker(b), nil)
	var m *Manifest
	for b.Loop() {
		m = create(b, k)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/backup")
	b.ReportMetric(float64(m.Bytes)/1e6, "MB")
	b.ReportMetric(float64(peak.Load()-before)/1e6, "parent-MB")
}
