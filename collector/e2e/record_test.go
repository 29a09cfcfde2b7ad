package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/collector/journal"
	"bramble/pisensor/report"
	"bramble/storage/statedb"
)

// recordAs names the release that TestRecordRelease records.
const recordAs = "BRAMBLE_RECORD_RELEASE"

// recordedPassword opens the recording's login and nothing else.
const recordedPassword = "the password of a recording"

// TestRecordRelease makes the recording that later builds are tested against, of the programs
// of this commit or those in BRAMBLE_TEST_PROGRAMS. It runs when it is asked to.
func TestRecordRelease(t *testing.T) {
	name := os.Getenv(recordAs)
	if name == "" {
		t.Skipf("%s names no release", recordAs)
	}
	k := newSink(t)
	dir := t.TempDir()
	s := &server{
		t: t, dir: filepath.Join(dir, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"),
		args: []string{"--config", recordedConfig(t, dir, k)},
	}
	s.bearer = s.do("", "token", "create", "--role", "admin")
	s.do(recordedPassword+"\n", "user", "add", "mira", "--role", "operator")
	s.start()
	r := recordedRelease{
		Collector: strings.TrimPrefix(strings.TrimSpace(command(t, "", "collector", "version").out), "collector "), Schema: s.schemaVersion(),
		From: time.Now().Add(-time.Hour).UnixMilli(), Bearer: s.bearer, User: "mira", Password: recordedPassword,
	}
	s.live(t, k)
	r.Until = time.Now().UnixMilli()
	if err := s.keep(&r); err != nil {
		t.Fatal(err)
	}
	s.kill() // so that the journal has to be replayed
	r.Reports, r.Messages = recordedWire(t, filepath.Join(s.dir, "journal")), someMessages()
	to := filepath.Join(releases, name)
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	pack(t, s.dir, filepath.Join(to, "data.tar.gz"))
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "expected.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// live lets things happen that leave traces: a board that is relabelled between its
// readings, one that never enrolled, one that is retired, an incident that is
// acknowledged and one that is not.
func (s *server) live(t *testing.T, k *sink) {
	t.Helper()
	walk, hotter := s.enrol("pi-1", s.nats, "rack=r1", "customer=acme"), s.enrol("pi-2", s.nats, "rack=r2")
	other := s.enrol("pi-3", s.nats, "rack=r3")
	s.do("", "board", "add", "pi-4", "--label", "rack=r1")
	s.do("", "board", "add", "pi-5")
	s.do("", "board", "retire", "pi-5")
	finish := func(p *process) {
		t.Helper()
		if code := p.exit(t, patience); code != 0 {
			t.Fatalf("replay: exit %d: %s", code, p.errs)
		}
	}
	paged := func(b board, recording *recorded) {
		t.Helper()
		finish(b.replay(t, recording))
		eventually(t, patience, func() error {
			if len(k.keys(b.name)) == 0 {
				return errors.New("no page")
			}
			return nil
		})
	}
	paged(hotter, understand(t, "hot", hot))
	var incidents struct{ Incidents []keptIncident }
	if err := s.json("api/incidents", &incidents); err != nil || len(incidents.Incidents) != 1 {
		t.Fatalf("incidents: %v, %v", incidents, err)
	}
	if code, answer, err := s.request("POST", "api/incidents/"+incidents.Incidents[0].ID+"/ack", []byte(`{"comment":"fan ordered"}`)); code/100 != 2 || err != nil {
		t.Fatalf("acknowledge: %d %s, %v", code, answer, err)
	}
	before := invent(t, "before", 60, every(10_000))
	finish(walk.replay(t, before))
	s.returned(walk, before, 1)
	if code := s.stop(t, patience); code != 0 { // so that the series are in the store's files
		t.Fatalf("stop: exit %d: %s", code, s.errs)
	}
	s.start()
	s.do("", "board", "label", "pi-1", "customer=", "rack=r7")
	paged(other, understand(t, "hot", hot))
	// The last are in the journal alone when the collector is killed.
	finish(walk.replay(t, understand(t, "later", "t_s,temp_c\n0,51\n1,52\n"), "--speed", "1"))
	eventually(t, patience, func() error {
		found, err := s.query(`pi_soc_temperature_celsius{board="pi-1",rack="r7"}`)
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%d series of the relabelled board", len(found))
		}
		return err
	})
}

// schemaVersion asks the running server's state for the version of its tables.
func (s *server) schemaVersion() (version int) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "state.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(s.t.Context(), `SELECT version FROM schema_version WHERE package = ?`, statedb.Tables().Package).Scan(&version); err != nil {
		s.t.Fatal(err)
	}
	return version
}

// recordedWire takes the reports of real sensors out of a journal, and adds one
// that has every metric.
func recordedWire(t *testing.T, dir string) (all []keptReport) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "journal")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	add := func(wire []byte) {
		k, err := understood(hex.EncodeToString(wire))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	// A report's record is 1, the board's name, the time of arrival, transitions, and the report.
	_, err := journal.Open(copied, journal.Options{}, func(record []byte) error {
		if record[0] != 1 {
			return nil
		}
		rest := skipBytes(record[1:])
		_, n := binary.Uvarint(rest)
		add(bytes.Clone(skipBytes(rest[n:])))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	add(everyMetric().Append(nil))
	return all
}

func skipBytes(b []byte) []byte {
	size, n := binary.Uvarint(b)
	return b[n+int(size):]
}

// everyMetric is a report with readings of all metrics, some of them missing.
func everyMetric() *report.Report {
	r := &report.Report{
		Session: 0xfedcba98, Anchor: 1_790_000_000_123, Due: 10_000, First: 41, Goodbye: true, AckLater: true, Elapsed: []int64{5_000, 15_001, 25_000},
		Info: []report.Attribute{{Key: report.AttributeModel, Value: "Raspberry Pi Zero 2 W Rev 1.0"}, {Key: report.AttributeBootID, Value: "0f0e"}},
	}
	for m := report.Metric(1); report.Define(m) != nil; m++ {
		d := report.Define(m)
		series := report.Series{Metric: m}
		if d.InstanceLabel != "" {
			series.Instance = "eth0"
		}
		values := r.Column(series)
		for i := range values {
			values[i] = min(d.Max, d.Min+int64(m)*100+int64(i*i*7))
		}
		if m%3 == 0 {
			values[m%2] = report.Missing
		}
	}
	return r
}

func someMessages() []keptMessage {
	ack := &report.Ack{Session: 0xfedcba98, Time: 1_790_000_000_123, Nonce: 7, Ranges: []report.Range{{First: 41, Count: 3}, {First: 1000, Count: 1}}}
	hello := &report.Hello{Session: 0xfedcba98, Nonce: 1 << 40}
	control := &report.Control{Lease: 60_000, Watchers: 2, SetLines: true, Lines: []report.Line{
		{Metric: report.SOCTemperature, Level: 80_000}, {Metric: report.ClockOffset, Level: -5},
	}}
	lease := &report.Control{Lease: 1}
	return []keptMessage{
		{Wire: hex.EncodeToString(ack.Append(nil)), Ack: ack}, {Wire: hex.EncodeToString(hello.Append(nil)), Hello: hello},
		{Wire: hex.EncodeToString(control.Append(nil)), Control: control}, {Wire: hex.EncodeToString(lease.Append(nil)), Control: lease},
	}
}

// left are the files that a recording leaves out: those that the store makes again, those that belong
// to a process, and the CA's key, which is a secret even where it opens nothing.
var left = []string{
	"series/cache", "series/tmp", "series/snapshots", "series/flock.lock", "series/reserve", "rollups/cache", "rollups/tmp", "rollups/snapshots", "rollups/flock.lock",
	"lock", "control.sock", "state.db-shm", "ca.key", "ca.crt", "backups", "crash.log",
}

// pack writes a data directory into an archive.
func pack(t *testing.T, dir, archive string) {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	files := tar.NewWriter(z)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case slices.Contains(left, name) && d.IsDir():
			return filepath.SkipDir
		case slices.Contains(left, name) || !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := files.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			return err
		}
		_, err = io.Copy(files, bytes.NewReader(text))
		return err
	})
	if err := errors.Join(err, files.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
