package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
	"bramble/storage/statedb"
)

// releases holds the traces of each release: a data directory, the answers
// that the release gave from it, and messages as they went over the wire. Its README
// says how one is recorded.
const releases = "testdata/releases"

// recordedRelease is a release's expected.json: its answers about its recorded
// data. It holds a login and an API token that open nothing else.
type recordedRelease struct {
	Collector string `json:"collector"` // its version
	Schema    int    `json:"schema"`    // the version of its state's tables
	// From and Until bound the recorded readings, Unix ms.
	From      int64          `json:"from"`
	Until     int64          `json:"until"`
	Bearer    string         `json:"bearer"`
	User      string         `json:"user"`
	Password  string         `json:"password"`
	Boards    []keptBoard    `json:"boards"`
	Alerts    []keptAlert    `json:"alerts"`
	Incidents []keptIncident `json:"incidents"`
	Series    []stored       `json:"series"`
	Reports   []keptReport   `json:"reports"`
	Messages  []keptMessage  `json:"messages"`
}

// The parts of an answer that must stay: later releases may add to it.
type (
	keptBoard struct {
		Name     string            `json:"name"`
		Labels   map[string]string `json:"labels"`
		Enrolled bool              `json:"enrolled"`
	}
	keptAlert struct {
		Labels map[string]string `json:"labels"`
		State  string            `json:"state"`
	}
	keptIncident struct {
		ID             string   `json:"id"`
		Number         int64    `json:"number"`
		Title          string   `json:"title"`
		Severity       string   `json:"severity"`
		State          string   `json:"state"`
		Since          int64    `json:"since"`
		AcknowledgedAt int64    `json:"acknowledgedAt,omitempty"`
		AcknowledgedBy string   `json:"acknowledgedBy,omitempty"`
		Comment        string   `json:"comment,omitempty"`
		Boards         []string `json:"boards,omitempty"`
	}
	// keptReport is a report as it went over the wire, and its contents.
	keptReport struct {
		Wire     string               `json:"wire"` // hexadecimal
		Session  uint32               `json:"session"`
		First    uint64               `json:"first"`
		Due      int64                `json:"due"`
		Goodbye  bool                 `json:"goodbye,omitempty"`
		AckLater bool                 `json:"ackLater,omitempty"`
		At       []int64              `json:"at"` // Unix ms
		Values   map[string][]float64 `json:"values"`
		Missing  map[string][]int     `json:"missing,omitempty"` // ticks without a reading; their value is 0
		Info     map[string]string    `json:"info,omitempty"`
	}
	// keptMessage is an ack, a hello or a control message. Old sensors must
	// understand the collector's messages, so it is also encoded anew.
	keptMessage struct {
		Wire    string          `json:"wire"`
		Ack     *report.Ack     `json:"ack,omitempty"`
		Hello   *report.Hello   `json:"hello,omitempty"`
		Control *report.Control `json:"control,omitempty"`
	}
)

// wire holds the messages of sensors and collectors from before the first schema. Sensors of netboot images outlive data.
const wire = "testdata/wire"

func readReleases(t *testing.T) map[string]recordedRelease {
	t.Helper()
	return readRecordings(t, filepath.Join(releases, "*", "expected.json"))
}

func readRecordings(t *testing.T, pattern string) map[string]recordedRelease {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", pattern, err)
	}
	all := map[string]recordedRelease{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r recordedRelease
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := filepath.Base(file)
		if name == "expected.json" {
			name = filepath.Base(filepath.Dir(file))
		}
		all[name] = r
	}
	return all
}

// older reports whether today's build upgrades the release's state.
func (r recordedRelease) older() bool { return r.Schema < statedb.Tables().Version }

// olderReleases are the releases whose state today's build upgrades.
func olderReleases(t *testing.T) map[string]recordedRelease {
	t.Helper()
	all := readReleases(t)
	maps.DeleteFunc(all, func(_ string, r recordedRelease) bool { return !r.older() })
	if len(all) == 0 {
		t.Fatal("no release is older than today's schema")
	}
	return all
}

// boardSeries are the boards' own series between two times, Unix ms.
func (s *server) boardSeries(from, until int64) ([]stored, error) {
	second := func(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }
	q := url.Values{"match[]": {`{__name__=~"pi_.*",__name__!~"pi_board_up|pi_info|pi_boot.*"}`}, "start": {second(from)}, "end": {second(until)}}
	b, err := s.get("api/v1/export?" + q.Encode())
	if err != nil {
		return nil, err
	}
	var all []stored
	for line := range strings.Lines(string(b)) {
		var one stored
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return nil, fmt.Errorf("export: %w: %s", err, line)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b stored) int { return strings.Compare(fmt.Sprint(a.Metric), fmt.Sprint(b.Metric)) })
	return all, nil
}

// keep asks for all that must stay.
func (s *server) keep(r *recordedRelease) error {
	var boards struct{ Boards []keptBoard }
	var alerts struct{ Data struct{ Alerts []keptAlert } }
	var incidents struct{ Incidents []keptIncident }
	if err := errors.Join(s.json("api/boards", &boards), s.json("api/v1/alerts", &alerts), s.json("api/incidents", &incidents)); err != nil {
		return err
	}
	r.Boards, r.Incidents = boards.Boards, incidents.Incidents
	r.Alerts = nil
	for _, a := range alerts.Data.Alerts {
		if a.Labels["alertname"] == "Hot" { // the recording's rule; others depend on the time
			r.Alerts = append(r.Alerts, a)
		}
	}
	slices.SortFunc(r.Alerts, func(a, b keptAlert) int { return strings.Compare(a.Labels["board"], b.Labels["board"]) })
	var err error
	r.Series, err = s.boardSeries(r.From, r.Until)
	return err
}

// TestEveryReleaseIsUpgraded starts today's collector on the data of each release, and it answers as the release did. Where
// the release's schema is older, it makes a backup before and upgrades.
func TestEveryReleaseIsUpgraded(t *testing.T) {
	t.Parallel()
	for name, want := range readReleases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newSink(t)
			s := oldServer(t, name, k)
			s.bearer = want.Bearer
			s.start()
			got := want
			if err := s.keep(&got); err != nil {
				t.Fatal(err)
			}
			got.Incidents = slices.DeleteFunc(got.Incidents, func(i keptIncident) bool { return i.Number > want.Incidents[0].Number })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-%s +today):\n%s", name, diff)
			}
			if code := s.login(want.User, want.Password); code != http.StatusSeeOther {
				t.Errorf("login: %d", code)
			}
			if code := s.login(want.User, want.Password+"x"); code != http.StatusUnauthorized {
				t.Errorf("login with another password: %d", code)
			}
			wanted := []string{"journal replayed"}
			if want.older() {
				wanted = append(wanted, "an older collector's data is upgraded", "restored in a test")
				if list := s.do("", "backup", "list"); !strings.HasSuffix(list, " good") {
					t.Errorf("backups: %s", list)
				}
			}
			for _, text := range wanted {
				if !strings.Contains(s.errs.String(), text) {
					t.Errorf("the start does not say %q:\n%s", text, s.errs)
				}
			}
			if code := s.stop(t, patience); code != 0 {
				t.Errorf("stop: exit %d: %s", code, s.errs)
			}
			s.start()
			if strings.Contains(s.errs.String(), "upgraded") {
				t.Errorf("the second start upgrades again:\n%s", s.errs)
			}
			for _, i := range want.Incidents {
				if i.State == "acknowledged" && len(k.keys(i.Boards[0])) > 0 {
					t.Errorf("incident %d was acknowledged and pages again", i.Number)
				}
			}
		})
	}
}

// oldServer unpacks a release's data for a server that is not started, with the
// configuration that it was recorded under.
func oldServer(t *testing.T, name string, k *sink) *server {
	t.Helper()
	dir := t.TempDir()
	unpack(t, filepath.Join(releases, name, "data.tar.gz"), filepath.Join(dir, "data"))
	return &server{
		t: t, dir: filepath.Join(dir, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"),
		args: []string{"--config", recordedConfig(t, dir, k)},
	}
}

// recordedConfig keeps readings for as long as a recording may be old.
func recordedConfig(t *testing.T, dir string, k *sink) string {
	t.Helper()
	for name, text := range map[string]string{
		"rules.yml": crossingRules, "alertmanager.yml": fmt.Sprintf(crossingRoute, k.url),
		"collector.yml": "rules: [rules.yml]\nalertmanager: alertmanager.yml\nretention: 99y\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "collector.yml")
}

func (s *server) login(user, password string) int {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &http.Client{Jar: jar, CheckRedirect: stayHere}
	response, err := c.PostForm(s.url()+"login", url.Values{"name": {user}, "password": {password}, "next": {"/"}})
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// TestReportsOfEveryRelease decodes the reports of each release's sensors,
// and encodes the messages of its collector.
func TestReportsOfEveryRelease(t *testing.T) {
	all := readReleases(t)
	maps.Copy(all, readRecordings(t, filepath.Join(wire, "*.json")))
	for name, r := range all {
		if len(r.Reports) < 2 || len(r.Messages) < 3 {
			t.Errorf("%s: %d reports and %d messages test nothing", name, len(r.Reports), len(r.Messages))
		}
		for i, want := range r.Reports {
			got, err := understood(want.Wire)
			if err != nil {
				t.Errorf("%s, report %d: %v", name, i, err)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, report %d (-recorded +today):\n%s", name, i, diff)
			}
		}
		for i, m := range r.Messages {
			if again, err := m.again(); err != nil || again != m.Wire {
				t.Errorf("%s, message %d: decoded and encoded anew it is %s, %v; want %s", name, i, again, err, m.Wire)
			}
		}
	}
}

// understood decodes a report into series in base units.
func understood(wire string) (k keptReport, err error) {
	b, err := hex.DecodeString(wire)
	if err != nil {
		return k, err
	}
	var r report.Report
	if err := r.Decode(b); err != nil {
		return k, err
	}
	if r.Unknown+r.Implausible > 0 {
		return k, fmt.Errorf("%d readings of unknown metrics, %d implausible ones", r.Unknown, r.Implausible)
	}
	k = keptReport{Wire: wire, Session: r.Session, First: r.First, Due: r.Due, Goodbye: r.Goodbye, AckLater: r.AckLater, Values: map[string][]float64{}}
	for i := range r.Elapsed {
		k.At = append(k.At, r.At(i))
	}
	for _, c := range r.Columns {
		d := report.Define(c.Series.Metric)
		series := fmt.Sprintf("%s{%s%s=%q}", d.Name, d.Label, d.InstanceLabel, d.Value+c.Series.Instance)
		for i, v := range c.Values {
			if v == report.Missing {
				if k.Missing == nil {
					k.Missing = map[string][]int{}
				}
				k.Missing[series] = append(k.Missing[series], i)
				v = 0
			}
			k.Values[series] = append(k.Values[series], d.Base(v))
		}
	}
	for _, a := range r.Info {
		if k.Info == nil {
			k.Info = map[string]string{}
		}
		k.Info[a.Key.String()] = a.Value
	}
	return k, nil
}

// again compares the decoded message with the recorded one and encodes it.
func (m keptMessage) again() (string, error) {
	b, err := hex.DecodeString(m.Wire)
	if err != nil {
		return "", err
	}
	switch {
	case m.Ack != nil:
		got, err := report.DecodeAck(b)
		return hex.EncodeToString(m.Ack.Append(nil)), errors.Join(err, differs(*m.Ack, got))
	case m.Hello != nil:
		got, err := report.DecodeHello(b)
		return hex.EncodeToString(m.Hello.Append(nil)), errors.Join(err, differs(*m.Hello, got))
	case m.Control != nil:
		got, err := report.DecodeControl(b)
		return hex.EncodeToString(m.Control.Append(nil)), errors.Join(err, differs(*m.Control, got))
	}
	return "", errors.New("it is none that is known")
}

func differs(want, got any) error {
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// unpack extracts a recorded data directory.
func unpack(t testing.TB, archive, to string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := tar.NewReader(z)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := extract(files, h, to); err != nil {
			t.Fatal(err)
		}
	}
}

func extract(files *tar.Reader, h *tar.Header, to string) error {
	path := filepath.Join(to, filepath.FromSlash(h.Name))
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("%q leads out of the archive", h.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, files)
	return errors.Join(err, out.Close())
}
