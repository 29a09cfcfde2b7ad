package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"bramble/storage"
)

// address is where boards reach a collector that can move, as behind a DNS
// name: it forwards connections to wherever the collector listens now.
type address struct {
	net.Listener
	mu sync.Mutex
	to string
}

func newAddress(t testing.TB, to string) *address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &address{Listener: l, to: to}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { a.forward(c) })
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return a
}

func (a *address) move(to string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to = to
}

func (a *address) forward(c net.Conn) {
	defer c.Close()
	a.mu.Lock()
	to := a.to
	a.mu.Unlock()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	done := make(chan struct{}, 2)
	copyTo := func(to, from net.Conn) { io.Copy(to, from); done <- struct{}{} }
	go copyTo(c, d)
	go copyTo(d, c)
	<-done
}

// TestRestoredOnNewHardware loses a collector and brings it back elsewhere. On
// the boards nothing is done.
func TestRestoredOnNewHardware(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	where := newAddress(t, s.nats)
	boards := []board{s.enrol("pi-1", where.Addr().String(), "rack=r1"), s.enrol("pi-2", where.Addr().String())}
	before := []*recorded{invent(t, "before-1", 3000, every(5_000)), invent(t, "before-2", 2000, every(7_000))}
	for i, b := range boards {
		if code := b.replay(t, before[i]).exit(t, patience); code != 0 {
			t.Fatalf("replay: exit %d", code)
		}
		s.returned(b, before[i], 1)
	}
	s.do("long enough\n", "user", "add", "mira", "--role", "admin")
	name := s.do("", "backup", "create")
	if list := s.do("", "backup", "list"); !strings.Contains(list, name) || !strings.HasSuffix(list, "good") {
		t.Errorf("list: %s", list)
	}
	s.kill()

	r := &server{t: t, dir: filepath.Join(t.TempDir(), "new"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), bearer: s.bearer}
	if got := r.do("", "backup", "restore", "--target", filepath.Join(s.dir, "backups")); got != name {
		t.Errorf("restored %q, want %q", got, name)
	}
	r.try("", "backup", "restore", name, "--target", filepath.Join(s.dir, "backups")).refusal(t, "holds data", "--aside")
	r.start()
	where.move(r.nats)
	for i, b := range boards {
		r.returned(b, before[i], 1)
	}
	if users := r.do("", "user", "list"); !strings.Contains(users, "mira") {
		t.Errorf("users: %s", users)
	}
	after := invent(t, "after", 50, every(1_000))
	p := boards[0].replay(t, after, "--speed", "50")
	if code := p.exit(t, patience); code != 0 {
		t.Fatalf("a board does not come back: exit %d: %s", code, p.errs)
	}
	eventually(t, patience, func() error {
		series, err := r.export(`pi_soc_temperature_celsius{board="pi-1",rack="r1"}`, false)
		if err != nil {
			return err
		}
		if got, _ := readingsOf(series); len(got) != len(before[0].at)+len(after.at) {
			return fmt.Errorf("pi-1 has %d temperatures, want %d and %d", len(got), len(before[0].at), len(after.at))
		}
		return nil
	})
	r.try("", "backup", "restore").refusal(t, "collector runs", "stop it")
}

// TestBackupWhileBoardsReport takes a backup while boards send.
// The readings that could be read before it began are in it, with the same values.
func TestBackupWhileBoardsReport(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats)
	sent := invent(t, "sent", 3000, every(1_000)) // 60 s at this speed
	launched := b.replay(t, sent, "--speed", "50")
	var before map[point]float64
	read := func(s *server) (map[point]float64, error) {
		series, err := s.export(`{board="pi-1"}`, false)
		values, _ := readingsOf(series)
		return values, err
	}
	eventually(t, patience, func() (err error) {
		if before, err = read(s); err == nil && len(before) < 2000 {
			err = fmt.Errorf("%d readings yet", len(before))
		}
		return err
	})
	name := s.do("", "backup", "create")
	launched.kill()
	s.kill()
	r := &server{t: t, dir: filepath.Join(t.TempDir(), "new"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), bearer: s.bearer}
	r.do("", "backup", "restore", filepath.Join(s.dir, "backups", name))
	r.start()
	after, err := read(r)
	if err != nil {
		t.Fatal(err)
	}
	for p, v := range before {
		if after[p] != v {
			t.Fatalf("%v was %v before the backup, restored it is %v", p, v, after[p])
		}
	}
	t.Logf("%d readings before the backup, %d restored, %d sent in all", len(before), len(after), sent.readings())
	if len(after) >= sent.readings() {
		t.Error("the replay had ended, so this tested nothing")
	}
}

// stock makes a data directory with n rows that do not compress well, and a
// config that backs it up into target at 1 MiB/s.
func stock(t *testing.T, target string, n int) (dir, config string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	store, err := storage.Open(filepath.Join(dir, "series"), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]storage.Row, 1000)
	start := time.Now().Add(-4 * time.Hour).UnixMilli()
	for b := range n / len(rows) {
		series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "pi_load1"}, {Name: "board", Value: fmt.Sprint("b", b)}})
		for i := range rows {
			rows[i] = storage.Row{Series: series, At: start + int64(i*10_000+r.IntN(9999)), Value: r.Float64()}
		}
		if err := store.Add(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(t.TempDir(), "collector.yml")
	text := fmt.Sprintf("data_dir: %s\nbackups:\n  target: %s\n  rate: 1MiB\n", dir, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// TestKilledWhileBackingUp kills real backups at random moments, one in a plain run. What is left
// is good, or says that it was never tested, or is no backup.
func TestKilledWhileBackingUp(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	_, config := stock(t, target, 200_000)
	run := func(args ...string) answer {
		return command(t, "", "collector", append([]string{"backup"}, append(args, "--config", config)...)...)
	}
	if a := run("create"); a.code != 0 {
		t.Fatal(a.errs)
	}
	good := 1
	for range often(1, 8) {
		p := launch(t, "collector", "backup", "create", "--config", config)
		after(t, time.Duration(rand.IntN(4000))*time.Millisecond)
		p.kill()
		a := run("list")
		lines := strings.Split(strings.TrimSpace(a.out), "\n")[1:]
		now := 0
		for _, line := range lines {
			switch {
			case strings.HasSuffix(line, " good"):
				now++
			case !strings.HasSuffix(line, " never tested"):
				t.Errorf("a killed backup left %q", line)
			}
		}
		if ended := p.cmd.ProcessState.ExitCode() == 0; now != good && !ended && now != good+1 {
			t.Errorf("%d good backups after a kill, there were %d", now, good)
		}
		good = now
	}
	eventually(t, patience, func() error { // the killed ones' children end by themselves
		if a := run("create"); a.code != 0 {
			return errors.New(a.errs)
		}
		return nil
	})
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && e.Name() != ".lock" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestKilledWhileRestoring kills real restores at random moments, one in a plain run: the directory
// holds nothing that a collector would take, or everything, or says that it is
// unfinished.
func TestKilledWhileRestoring(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	dir, config := stock(t, target, 200_000)
	made := command(t, "", "collector", "backup", "create", "--config", config)
	if made.code != 0 {
		t.Fatal(made.errs)
	}
	const counts = "200000 rows of 200 series"
	if !strings.Contains(made.errs, counts) {
		t.Errorf("the backup says %q, want %s", made.errs, counts)
	}
	key := filepath.Join(dir, "backup.key")
	for range often(1, 5) {
		to := filepath.Join(t.TempDir(), "new")
		args := []string{"backup", "restore", "--config", config, "--data-dir", to, "--key", key}
		p := launch(t, "collector", args...)
		after(t, time.Duration(rand.IntN(3000))*time.Millisecond)
		p.kill()
		var there []string
		for _, name := range []string{"series", "state.db", "ca.key", "journal"} {
			if _, err := os.Stat(filepath.Join(to, name)); err == nil {
				there = append(there, name)
			}
		}
		_, unfinished := os.Stat(filepath.Join(to, "restore-unfinished"))
		whole := slices.Contains(there, "series") && slices.Contains(there, "state.db") && slices.Contains(there, "ca.key")
		if len(there) > 0 && unfinished != nil && !whole {
			t.Errorf("a killed restore left %v and does not say so", there)
		}
		eventually(t, patience, func() error { // the killed one's child ends by itself
			a := command(t, "", "collector", append(args, "--aside")...)
			if a.code != 0 {
				return errors.New(a.errs)
			}
			if !strings.Contains(a.errs, counts) {
				t.Errorf("restored %q, want %s", a.errs, counts)
			}
			return nil
		})
	}
}

// smallDisk mounts a file system of a size in MiB, where that is allowed.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// value returns the value of an expression that has one, at present.
func (s *server) value(expr string) (float64, error) {
	got, err := s.query(expr)
	if err != nil {
		return 0, err
	}
	if len(got) != 1 {
		return 0, fmt.Errorf("%s has %d values", expr, len(got))
	}
	return got[0].value, nil
}

// TestFullDiskWhileBackingUp fills the target's disk in the middle of a backup.
func TestFullDiskWhileBackingUp(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 16)
	_, config := stock(t, disk, 200_000)
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, append(text, "  every: 31d\n"...), 0o600) // the first one at once
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newServerOn(t, config)
	failed := func(want float64) {
		t.Helper()
		eventually(t, patience, func() error {
			got, err := s.value("bramble_backup_last_attempt_failed")
			if err == nil && got != want {
				err = fmt.Errorf("bramble_backup_last_attempt_failed is %v, want %v", got, want)
			}
			return err
		})
	}
	// The scheduled backup is on its way at 1 MiB/s; now the disk fills.
	eventually(t, patience, func() error {
		found, _ := filepath.Glob(filepath.Join(disk, ".*.partial", "series", "*", "*"))
		if len(found) == 0 {
			return errors.New("no backup has begun")
		}
		return nil
	})
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	failed(1)
	var status struct{ Error string }
	if err := s.json("api/backups", &status); err != nil || !strings.Contains(status.Error, "no space left on device") || !strings.Contains(status.Error, disk) {
		t.Errorf("status %+v, %v", status, err)
	}
	alerts, err := s.get("api/v1/alerts")
	if err != nil || !strings.Contains(string(alerts), "BackupFailed") {
		t.Errorf("alerts: %s, %v", alerts, err)
	}
	s.try("", "backup", "create").refusal(t, "not enough space in "+disk, "choose another place")
	if left, _ := filepath.Glob(filepath.Join(disk, ".2*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.do("", "backup", "create")
	failed(0)
	if n, err := s.value(`bramble_backups{result="good"}`); err != nil || n != 1 {
		t.Errorf("%v good backups, %v", n, err)
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// newServerOn starts a server with a config file that names its data.
func newServerOn(t *testing.T, config string) *server {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		DataDir string `yaml:"data_dir"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil || c.DataDir == "" {
		t.Fatalf("config %s: %v, data_dir %q", config, err, c.DataDir)
	}
	s := &server{t: t, dir: c.DataDir, http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), args: []string{"--config", config}}
	s.found()
	s.start()
	return s
}

// TestDamagedStoreNamesTheWayBack starts a collector on a store with a broken
// file, and follows the line that it prints.
func TestDamagedStoreNamesTheWayBack(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats)
	sent := invent(t, "sent", 500, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	s.returned(b, sent, 1)
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d", code)
	}
	serve := []string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}
	s.do("", "backup", "create")
	s.do("", "board", "add", "later") // later changes of the state stay
	found, err := filepath.Glob(filepath.Join(s.dir, "series", "data", "small", "*", "*", "metaindex.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("%v, %v", found, err)
	}
	if err := os.Truncate(found[0], 3); err != nil {
		t.Fatal(err)
	}
	a := command(t, "", "collector", serve...)
	if a.code != exitDamaged || !strings.Contains(a.errs, found[0]) {
		t.Errorf("exit %d: %s", a.code, a.errs)
	}
	_, way, _ := strings.Cut(a.errs, "collector backup restore ")
	restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...)
	if restored.code != 0 {
		t.Fatalf("following what it says: %s", restored.errs)
	}
	s.start()
	s.returned(b, sent, 1)
	if list := s.do("", "board", "list"); !strings.Contains(list, "later") {
		t.Errorf("the state was restored too: %s", list)
	}
	var kept struct {
		Backups []json.RawMessage
	}
	if err := s.json("api/backups", &kept); err != nil || len(kept.Backups) != 1 {
		t.Errorf("backups: %v, %v", kept, err)
	}
}
