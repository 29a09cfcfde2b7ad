package backup

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/collector/broker"
	"bramble/collector/config/unit"
	"bramble/collector/registry"
	"bramble/pisensor/report"
	"bramble/storage"
)

// checkEnv makes the test binary the checking process.
const checkEnv = "BRAMBLE_BACKUP_CHECK"

func TestMain(m *testing.M) {
	if os.Getenv(bucketEnv) != "" {
		serveBucket()
	}
	if os.Getenv(checkEnv) != "" {
		peak := watchPeak()
		if err := Check(context.Background(), os.Args[len(os.Args)-1], os.Stdin, os.Stderr, broker.PinOfPEM); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if file := os.Getenv(peakEnv); file != "" {
			if err := os.WriteFile(file, fmt.Append(nil, peak.Load()), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func checker(t testing.TB) []string {
	t.Helper()
	t.Setenv(checkEnv, "1")
	return []string{os.Args[0]}
}

// quick returns a folder on a disk of memory, where syncing is free.
func quick(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bramble-backup-") //nolint:usetesting // t.TempDir is on a disk, and this test syncs 200,000 files
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// collector is a data directory with a store and a state that are open.
type collector struct {
	Source
	boards *registry.Registry
}

func newCollector(t testing.TB, dir string) *collector {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pin, err := broker.PinOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := registry.OpenDB(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	boards, err := registry.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(filepath.Join(dir, seriesDir), storage.Options{MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	rolled, err := storage.Open(filepath.Join(dir, rollupsDir), storage.Options{MinFreeBytes: 1, Retention: 10 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rolled.Close() })
	return &collector{Source{DataDir: dir, DB: db, Store: store, Rollups: rolled, Pin: pin, Version: "test"}, boards}
}

// fill adds boards with n rows each, an hour old and older.
func (c *collector) fill(t testing.TB, boards, n int) {
	t.Helper()
	start := time.Now().Add(-time.Hour - time.Duration(n)*10*time.Second).UnixMilli()
	rows := make([]storage.Row, n)
	for b := range boards {
		series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "pi_load1"}, {Name: "board", Value: fmt.Sprint("b", b)}})
		for i := range rows {
			rows[i] = storage.Row{Series: series, At: start + int64(i)*10_000, Value: float64((i*i*7 + b) % 1000)}
		}
		if err := c.Store.Add(rows); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *collector) keeper(t testing.TB, config Config) *Keeper {
	t.Helper()
	return New(config, c.Source, checker(t), slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func create(t testing.TB, k *Keeper) *Manifest {
	t.Helper()
	m, err := k.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (k *Keeper) dirOf(m *Manifest) string { return filepath.Join(k.config.Target, m.Name) }

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestARestoredBackupAnswersAsTheOriginal(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 20, 500)
	settings := filepath.Join(t.TempDir(), "collector.yml")
	rules := filepath.Join(t.TempDir(), "own.rules.yml")
	for path, text := range map[string]string{settings: "smtp: secret-word", rules: "groups: []"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Files = func() Files { return Files{Config: settings, Secret: []string{settings}, Rules: []string{rules}} }
	if err := c.boards.AddBoard(t.Context(), "b0", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.boards.AddUser(t.Context(), "mira", "long enough", registry.Role("admin")); err != nil {
		t.Fatal(err)
	}
	session, err := c.boards.Login(t.Context(), "mira", "long enough")
	if err != nil {
		t.Fatal(err)
	}
	k := c.keeper(t, Config{})
	m := create(t, k)
	if !m.Good() || m.State != (registry.Contents{Boards: 1, Users: 1}) || m.Series != 20 || m.Rows != 20*500 {
		t.Errorf("manifest: %+v", m)
	}
	if text := grep(t, k.dirOf(m), "secret-word"); text != "" {
		t.Errorf("%s holds a secret in the clear", text)
	}
	to := t.TempDir()
	key, err := FindKey("", to, k.dirOf(m), m)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Restore{Backup: k.dirOf(m), DataDir: to, Key: key, Child: checker(t)}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(res.Settings, settingsDir, "collector.yml")); err != nil || string(text) != "smtp: secret-word" {
		t.Errorf("settings: %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(res.Settings, rulesDir, "own.rules.yml")); err != nil {
		t.Error(err)
	}
	r := newCollector(t, to)
	if r.Pin != c.Pin {
		t.Error("the CA is another one")
	}
	if _, err := r.boards.Authenticate(session); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("an open login was restored: %v", err)
	}
	for _, expr := range []string{`sum by (board) (sum_over_time(pi_load1[1d]))`, `count(count_over_time(pi_load1[1d]))`} {
		a, errA := c.Store.Query(t.Context(), expr, time.Now())
		b, errB := r.Store.Query(t.Context(), expr, time.Now())
		if errA != nil || errB != nil || len(a) == 0 || fmt.Sprint(values(a)) != fmt.Sprint(values(b)) {
			t.Errorf("%s: %v and %v (%v, %v)", expr, values(a), values(b), errA, errB)
		}
	}
	if left := names(t, k.config.Target); len(left) != 2 { // the lock and the backup
		t.Errorf("the target holds %v", left)
	}
}

func values(rs []storage.Result) map[string]float64 {
	m := map[string]float64{}
	for _, r := range rs {
		m[fmt.Sprint(r.Labels)] = r.Values[len(r.Values)-1]
	}
	return m
}

// grep returns a file below dir that holds text.
func grep(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// damages change a file's bytes at a position, one at a time.
var damages = map[string]func(data []byte, at int) []byte{
	"flipped":   func(d []byte, at int) []byte { d[at] ^= 1 << (at % 8); return d },
	"truncated": func(d []byte, at int) []byte { return d[:at] },
	"removed":   func(d []byte, at int) []byte { return append(d[:at], d[at+1:]...) },
}

// bytesOfEach is how many bytes of a file are damaged at its begin, at its end and between them.
func bytesOfEach() int {
	if os.Getenv("BRAMBLE_ENDURANCE") == "1" {
		return 300
	}
	return 20
}

// TestEveryDamageIsCaught changes every file of a backup: each of the first and
// last bytes, and some between them, is flipped, removed and the end of the file.
func TestEveryDamageIsCaught(t *testing.T) {
	dir := quick(t)
	c := newCollector(t, filepath.Join(dir, "data"))
	c.fill(t, 8, 60)
	k := c.keeper(t, Config{Target: dir})
	m := create(t, k)
	backup, restored := k.dirOf(m), filepath.Join(dir, "restored")
	// The checks that the checking process makes before it opens anything.
	read := func() error {
		m, err := readManifest(t.Context(), folderShelf(backup))
		if err == nil {
			err = Job{Backup: backup, Scratch: restored}.stage(t.Context(), folderShelf(backup), m)
		}
		return errors.Join(err, os.RemoveAll(restored))
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	cases, files := 0, []string{manifestName}
	for _, f := range m.Files {
		files = append(files, f.Path)
	}
	for _, name := range files {
		path := filepath.Join(backup, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range positions(len(whole), bytesOfEach()) {
			for what, damage := range damages {
				cases++
				if err := os.WriteFile(path, damage(bytes.Clone(whole), at), 0o600); err != nil {
					t.Fatal(err)
				}
				if read() == nil {
					t.Errorf("%s: byte %d %s: not caught", name, at, what)
				}
			}
		}
		for what, damage := range map[string]func() error{
			"longer": func() error { return os.WriteFile(path, append(bytes.Clone(whole), 0), 0o600) },
			"gone":   func() error { return os.Remove(path) },
		} {
			cases++
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if read() == nil {
				t.Errorf("%s %s: not caught", name, what)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := read(); err != nil {
		t.Errorf("the backup as it was: %v", err)
	}
	t.Logf("%d cases in %d files", cases, len(files))
}

// positions are the first and last each, and as many between them.
func positions(n, each int) (all []int) {
	step := max(1, (n-2*each)/each)
	for i := 0; i < n; i++ {
		if i < each || i >= n-each || i%step == 0 {
			all = append(all, i)
		}
	}
	return all
}

// TestVerifyCatchesDamageAndRemembersIt goes through the checking process.
func TestVerifyCatchesDamageAndRemembersIt(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 8, 60)
	k := c.keeper(t, Config{})
	m := create(t, k)
	f := func(file string, wanted string, damage func(path string) error) {
		t.Helper()
		path := filepath.Join(k.dirOf(m), file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(path); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(t.Context(), m.Name); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v, want %q", file, err, wanted)
		}
		if s := k.Status(); s.Newest() != nil {
			t.Errorf("%s: the damaged backup counts as good", file)
		}
		if _, err := Find(t.Context(), k.config, "", time.Time{}); !errors.Is(err, ErrNone) {
			t.Errorf("%s: restore would choose it: %v", file, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(t.Context(), m.Name); err != nil {
			t.Errorf("%s: as it was: %v", file, err)
		}
	}
	flip := func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 4
		return os.WriteFile(path, data, 0o600)
	}
	f(stateFile, "SHA-256", flip)
	f(secretsFile, "no such file", os.Remove)
	f(m.Files[0].Path, "bytes, the manifest says", func(path string) error { return os.Truncate(path, 1) })
	f(manifestName, "checksum", flip)
}

// forge lets the manifest agree with the folder's files, as if the backup had been written wrongly.
func forge(t *testing.T, dir string, change func(*Manifest)) {
	t.Helper()
	m, err := readManifest(t.Context(), folderShelf(dir))
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	for i, f := range m.Files {
		sum, err := newCopier(0).sumFile(t.Context(), filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		sum.Path = f.Path
		m.Files[i] = sum
	}
	if err := m.write(t.Context(), folderShelf(dir)); err != nil {
		t.Fatal(err)
	}
}

// TestABackupThatWasWrittenWronglyDoesNotRestore has right sums and wrong contents.
func TestABackupThatWasWrittenWronglyDoesNotRestore(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 30, 200)
	f := func(wanted string, change func(dir string, m *Manifest)) {
		t.Helper()
		k := c.keeper(t, Config{Target: t.TempDir()})
		m := create(t, k)
		forge(t, k.dirOf(m), func(m *Manifest) { change(k.dirOf(m), m) })
		if _, err := k.Verify(t.Context(), m.Name); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%v, want %q", err, wanted)
		}
	}
	without := func(prefix string) func(string, *Manifest) {
		return func(dir string, m *Manifest) {
			var kept []FileSum
			for _, f := range m.Files {
				if !strings.HasPrefix(f.Path, prefix) {
					kept = append(kept, f)
				}
			}
			if len(kept) == len(m.Files) {
				t.Fatalf("no file begins with %s", prefix)
			}
			m.Files = kept
		}
	}
	f("0 rows", without("series/data/small/"))
	f("the restored store has", without("series/data/indexdb/"))
	f("rows, the snapshot had", func(_ string, m *Manifest) { m.Rows++ })
	f("series, the snapshot had", func(_ string, m *Manifest) { m.Series++ })
	f("the manifest says", func(_ string, m *Manifest) { m.State.Users++ })
	f("the CA in secrets.age", func(_ string, m *Manifest) { m.Pin = "another" })
	f("database", func(dir string, _ *Manifest) {
		db, err := sql.Open("sqlite", filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(`PRAGMA foreign_keys=OFF; INSERT INTO board_labels VALUES ('ghost', 0, '{}')`); err != nil {
			t.Fatal(err)
		}
	})
	truncated := func(name string) func(string, *Manifest) {
		return func(dir string, m *Manifest) {
			for _, f := range m.Files {
				if strings.HasSuffix(f.Path, name) {
					if err := os.Truncate(filepath.Join(dir, f.Path), f.Size/2); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	f("", truncated("/values.bin"))
	f("", truncated("/items.bin"))
	f("", truncated("/metaindex.bin"))
}

func TestRestoreRefusesToOverwriteAndMovesAsideOnRequest(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t, dir)
	c.fill(t, 3, 100)
	k := c.keeper(t, Config{})
	m := create(t, k)
	c.fill(t, 5, 100) // later than the backup
	if err := errors.Join(c.Store.Close(), c.Rollups.Close(), c.DB.Close()); err != nil {
		t.Fatal(err)
	}
	r := Restore{Backup: k.dirOf(m), DataDir: dir, Key: k.Key(), Child: checker(t)}
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--aside") {
		t.Fatalf("restore over data: %v", err)
	}
	series := func(dir string) int {
		rs, err := newCollector(t, dir).Store.Query(t.Context(), `count(count_over_time(pi_load1[1d]))`, time.Now())
		if err != nil || len(rs) != 1 {
			t.Fatalf("%v, %v", rs, err)
		}
		return int(rs[0].Values[0])
	}
	r.Aside = true
	res, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := series(dir); n != 3 {
		t.Errorf("%d series are restored, want 3", n)
	}
	if n := series(res.Aside); n != 5 {
		t.Errorf("%d series are aside, want 5", n)
	}
	if err := Unfinished(dir); err != nil {
		t.Error(err)
	}
}

func TestRestoreNeedsTheRightKey(t *testing.T) {
	c := newCollector(t, t.TempDir())
	k := c.keeper(t, Config{Target: t.TempDir()})
	m := create(t, k)
	to := t.TempDir()
	if _, err := FindKey("", to, k.dirOf(m), m); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "--without-keys") {
		t.Errorf("no key: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other.key")
	if _, _, err := openKey(other); err != nil {
		t.Fatal(err)
	}
	if _, err := FindKey(other, to, k.dirOf(m), m); !errors.Is(err, ErrNoKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := (Restore{Backup: k.dirOf(m), DataDir: to, Key: other, Child: checker(t)}).Run(t.Context()); err == nil {
		t.Error("another key opened the secrets")
	}
	if left := names(t, to); len(left) > 0 {
		t.Errorf("a failed restore left %v", left)
	}
	if _, err := (Restore{Backup: k.dirOf(m), DataDir: to, Child: checker(t)}).Run(t.Context()); err != nil {
		t.Errorf("without keys: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "ca.key")); err == nil {
		t.Error("the CA came without its key")
	}
}

func TestAnUnfinishedRestoreIsNoDataDirectory(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.fill(t, 2, 10)
	k := c.keeper(t, Config{})
	m := create(t, k)
	to := t.TempDir()
	r := Restore{Backup: k.dirOf(m), DataDir: to, Key: k.Key(), Child: checker(t)}
	// As a process leaves it that is killed between two of the last steps.
	if err := writeFile(filepath.Join(to, unfinishedName), []byte(r.Backup+"\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(to, seriesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Unfinished(to); err == nil || !strings.Contains(err.Error(), "collector backup restore "+r.Backup) {
		t.Errorf("%v", err)
	}
	if _, err := r.Run(t.Context()); err == nil {
		t.Error("it was overwritten unasked")
	}
	r.Aside = true
	if _, err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := Unfinished(to); err != nil {
		t.Error(err)
	}
}

func TestOneBackupAtATimeAndNoRemains(t *testing.T) {
	c := newCollector(t, t.TempDir())
	target := t.TempDir()
	k := c.keeper(t, Config{Target: target})
	release, err := lock(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context()); err == nil || !strings.Contains(err.Error(), "is running there") {
		t.Errorf("a second one beside the first: %v", err)
	}
	if s := k.Status(); s.AttemptErr == nil {
		t.Error("the failure is not in the status")
	}
	release()
	for _, name := range []string{"." + nameLayout + partial, "." + nameLayout + scratch} {
		if err := os.MkdirAll(filepath.Join(target, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(target, ".mine.partial"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := create(t, k)
	if got := fmt.Sprint(names(t, target)); got != fmt.Sprint([]string{".lock", ".mine.partial", m.Name}) {
		t.Errorf("the target holds %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Create(ctx); err == nil {
		t.Error("a backup was made for nobody")
	}
	if got := names(t, target); len(got) != 3 {
		t.Errorf("a backup that was cut short left %v", got)
	}
}

// TestStoppingEndsABackup stops a keeper in the middle of a slow backup that
// somebody else has asked for, while the schedule waits for its turn.
func TestStoppingEndsABackup(t *testing.T) {
	c := newCollector(t, t.TempDir())
	noise := filepath.Join(t.TempDir(), "noise.rules.yml")
	if err := os.WriteFile(noise, make([]byte, 64<<20), 0o600); err != nil { // a minute at this rate
		t.Fatal(err)
	}
	c.Files = func() Files { return Files{Rules: []string{noise}} }
	k := c.keeper(t, Config{Target: t.TempDir(), Rate: 1 << 20, Every: unit.Duration(time.Hour)})
	asked := make(chan error, 1)
	go func() { _, err := k.Create(context.WithoutCancel(t.Context())); asked <- err }()
	for s := k.Status(); !s.Running; s = k.Status() {
		<-k.Changed()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- k.Run(ctx) }()
	cancel()
	if err := <-asked; err == nil || !strings.Contains(err.Error(), "the collector stops") {
		t.Errorf("the backup ended with %v", err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if s := k.Status(); s.AttemptErr != nil {
		t.Errorf("stopping counts as a failure: %v", s.AttemptErr)
	}
	if got := names(t, k.config.Target); len(got) != 1 {
		t.Errorf("the target holds %v", got)
	}
}

// TestErrorsOfTheMachineDoNotCondemnABackup tests where testing is impossible.
func TestErrorsOfTheMachineDoNotCondemnABackup(t *testing.T) {
	c := newCollector(t, t.TempDir())
	k := c.keeper(t, Config{})
	m := create(t, k)
	f := func(wanted string) {
		t.Helper()
		if _, err := k.Verify(t.Context(), m.Name); !errors.Is(err, ErrNotTested) || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%v, want %q", err, wanted)
		}
		if s := k.Status(); s.Newest() == nil {
			t.Errorf("%s: the backup does not count as good any more", wanted)
		}
	}
	away := k.Key() + ".away"
	if err := os.Rename(k.Key(), away); err != nil {
		t.Fatal(err)
	}
	f("no such file")
	if _, _, err := openKey(k.Key()); err != nil {
		t.Fatal(err)
	}
	f("the backup is encrypted for")
	if err := os.Rename(away, k.Key()); err != nil {
		t.Fatal(err)
	}
	right := k.child
	k.child = []string{"sh", "-c", "kill -KILL $$"}
	f("was killed")
	k.child = right
	if _, err := k.Verify(t.Context(), m.Name); err != nil {
		t.Error(err)
	}
	absent := c.keeper(t, Config{Target: filepath.Join(t.TempDir(), "not", "mounted")})
	if _, err := absent.Create(t.Context()); err == nil || !strings.Contains(err.Error(), "is its disk mounted?") {
		t.Errorf("an absent target: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	m := &Manifest{Format: format, Name: nameLayout, Files: []FileSum{{Path: stateFile}, {Path: secretsFile, Size: 1}}, Test: &Test{Seconds: 0.25}}
	data, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"files":[{"path":"../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) {
				t.Fatalf("path %q", file.Path)
			}
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: %s", err, again)
		}
	})
}

// TestAReadOnlyTargetNamesTheUnitsSetting is the packaged unit's view of a target that it was not given.
func TestAReadOnlyTargetNamesTheUnitsSetting(t *testing.T) {
	c := newCollector(t, t.TempDir())
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_RDONLY, "size=1m"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, config := range []Config{{Target: disk}, {Key: filepath.Join(disk, "backup.key")}} {
		_, err := c.keeper(t, config).Create(t.Context())
		if want := "ReadWritePaths=-" + disk + " "; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", config, err, want)
		}
	}
}

func TestARelativeKeyIsMadeInTheDataDirectory(t *testing.T) {
	c := newCollector(t, t.TempDir())
	k := c.keeper(t, Config{Key: "own.key"})
	create(t, k)
	if want := filepath.Join(c.DataDir, "own.key"); k.Key() != want {
		t.Errorf("the key is %s, want %s", k.Key(), want)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "own.key")); err != nil {
		t.Error(err)
	}
}

// A backup from before a revocation brings the key back neither beside the collector's own list nor on
// an empty machine with a newer backup beside it.
func TestNoBackupBringsARevokedKeyBack(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t, dir)
	public := enrolled(t, c, "b0")
	k := c.keeper(t, Config{Target: t.TempDir()})
	older := create(t, k)
	if err := c.boards.Revoke(t.Context(), "b0"); err != nil {
		t.Fatal(err)
	}
	known := func(where string, c *collector) {
		t.Helper()
		if b, ok := c.boards.BoardOfKey(public); ok {
			t.Errorf("%s: the revoked key is %s's", where, b.Name)
		}
		if b, ok := c.boards.Board("b0"); !ok || b.Enrolled.IsZero() {
			t.Errorf("%s: the board is not there as it was: %+v", where, b)
		}
	}
	restore := func(dir string) Result {
		t.Helper()
		res, err := Restore{Backup: k.dirOf(older), DataDir: dir, Key: k.Key(), Child: checker(t), Aside: true}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	newer := create(t, k)
	empty := t.TempDir()
	if res := restore(empty); len(res.Unread) != 0 {
		t.Errorf("unread: %v", res.Unread)
	}
	known("an empty machine", newCollector(t, empty))
	if err := errors.Join(c.Store.Close(), c.Rollups.Close(), c.DB.Close(), os.RemoveAll(k.dirOf(newer))); err != nil {
		t.Fatal(err)
	}
	restore(dir)
	known("its own machine", newCollector(t, dir))
}

// enrolled adds a board with a key.
func enrolled(t *testing.T, c *collector, name string) string {
	t.Helper()
	if err := c.boards.AddBoard(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	token, err := c.boards.NewBoardToken(t.Context(), name, c.Pin)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.boards.Enrol(t.Context(), report.EnrolRequest{Token: token.Credentials(), Key: public}); err != nil {
		t.Fatal(err)
	}
	return public
}
