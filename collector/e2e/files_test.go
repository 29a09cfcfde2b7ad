package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sys/unix"
)

// TestStrangersTakeNoFilesFromPages opens more connections than the limit of open files has room for, at the boards' port and
// at the pages': boards that are connected are acknowledged and page, the store is copied, and the log
// names the shortage once.
func TestStrangersTakeNoFilesFromPages(t *testing.T) {
	t.Parallel()
	const limit, strangers = 512, 450
	k := newSink(t)
	var f *fleet
	var connect func()
	s := onDiskUnder(t, underLimit(limit), t.TempDir(), k, func(s *server) {
		boards, keys := newFleet(t, s, 5)
		f, connect = boards, func() { boards.connect(keys, nil) }
	})
	f.server = s
	if line := s.says(t, s.errs, `msg="limit of open files" `); !strings.Contains(line, fmt.Sprintf("limit=%d", limit)) || !strings.Contains(line, "enough_for_boards=") {
		t.Errorf("the start says %q", line)
	}
	connect()
	for i, address := range []string{s.nats, s.http} {
		for range strangers {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		b := f.boards[i]
		b.report(time.Now(), 85)
		b.report(time.Now().Add(time.Millisecond), 86)
		eventually(t, patience, func() error {
			if len(k.keys(b.name)) == 0 {
				return errors.New("no page")
			}
			return nil
		})
	}
	for i, b := range f.boards {
		b.report(time.Now().Add(2*time.Millisecond), 40+float64(i))
	}
	f.settled(patience)
	if n := s.metric(`bramble_broker_refused_connections_total{who="stranger"}`); n < strangers/2 {
		t.Errorf("%v strangers refused of %d", n, strangers)
	}
	if n := s.metric("bramble_http_ended_connections_total"); n < strangers/2 {
		t.Errorf("%v connections of browsers ended of %d", n, strangers)
	}
	s.do("", "backup", "create")
	s.says(t, s.errs, "connections are refused")
	if n := strings.Count(s.errs.String(), "connections are refused"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if open, most := s.metric("process_open_fds"), float64(limit); open > most*3/4 {
		t.Errorf("%v of %v files are open", open, most)
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TestMoreBoardsThanFiles has more boards connect than the limit of open files is enough for, and then strangers: the collector
// says at its start for how many it is enough, keeps those that it has places for, refuses the rest, says so once, and pages
// and copies its store all the while.
func TestMoreBoardsThanFiles(t *testing.T) {
	endurance(t)
	const limit, boards, speaking, strangers = 6_800, 6_000, 10, 5_000
	k := newSink(t)
	var f *fleet
	var keys []nkeys.KeyPair
	s := onDiskUnder(t, underLimit(limit), t.TempDir(), k, func(s *server) { f, keys = newFleet(t, s, boards) })
	enough, err := strconv.Atoi(strings.Fields(s.says(t, s.errs, "enough_for_boards="))[0])
	if err != nil || enough < boards*8/10 || enough >= boards || !strings.Contains(s.errs.String(), "the limit of open files is not enough for all boards") {
		t.Fatalf("the start says that %d are enough for %d boards, %v\n%s", limit, enough, err, s.errs)
	}
	pid := s.cmd.Process.Pid
	empty := residentKiB(t, pid)
	spoken := &fleet{t: t, server: s, boards: f.boards[:speaking]}
	spoken.connect(keys[:speaking], nil)
	next := 0
	pages := func(beside string) {
		t.Helper()
		b := spoken.boards[next]
		next++
		crossed := time.Now()
		b.report(crossed, 85)
		b.report(crossed.Add(time.Millisecond), 86)
		eventually(t, patience, func() error {
			if len(k.keys(b.name)) == 0 {
				return errors.New("no page")
			}
			return nil
		})
		t.Logf("beside %s: paged %v after the crossing, %d MB resident, %.0f files open", beside, time.Since(crossed).Round(time.Millisecond),
			residentKiB(t, pid)>>10, s.metric("process_open_fds"))
	}
	pages(fmt.Sprintf("nobody (%d MB at the start)", empty>>10))

	var work sync.WaitGroup
	var in, refused atomic.Int64
	turns := make(chan int)
	for range 16 {
		work.Go(func() {
			for i := range turns {
				c, err := s.loginByKey(keys[i])
				if err != nil {
					refused.Add(1)
					continue
				}
				in.Add(1)
				t.Cleanup(func() { c.Close() })
			}
		})
	}
	for i := speaking; i < boards; i++ {
		turns <- i
	}
	close(turns)
	work.Wait()
	connected := s.metric("bramble_broker_boards_connected")
	t.Logf("%d boards are in, %d were refused; the start said that the limit is enough for %d", in.Load()+speaking, refused.Load(), enough)
	if got := in.Load() + speaking; got != int64(connected) || got < int64(enough)*95/100 || refused.Load() == 0 {
		t.Errorf("%d boards are in, %.0f counted, want some %d", got, connected, enough)
	}
	pages("all boards that have a place")

	for range strangers {
		c, err := net.Dial("tcp", s.nats)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	pages(fmt.Sprintf("them and %d strangers", strangers))
	for _, who := range []string{"board", "stranger"} {
		if s.metric(fmt.Sprintf("bramble_broker_refused_connections_total{who=%q}", who)) == 0 {
			t.Errorf("no %s is counted as refused", who)
		}
	}
	eventually(t, patience, func() error {
		alerts, err := s.get("api/v1/alerts")
		if err == nil && !strings.Contains(string(alerts), "ConnectionsRefused") {
			err = errors.New("ConnectionsRefused does not fire")
		}
		return err
	})
	s.do("", "backup", "create")
	pages("the same, after a backup")
	if now := s.metric("bramble_broker_boards_connected"); now != connected {
		t.Errorf("%v boards are connected, %v were before the strangers came", now, connected)
	}
	if open := s.metric("process_open_fds"); open >= limit {
		t.Errorf("%v of %d files are open", open, limit)
	}
	if n := strings.Count(s.errs.String(), "connections are refused"); n != 1 {
		t.Errorf("said %d times that connections are refused", n)
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// underLimit starts a program with so many open files at most.
func underLimit(files int) []string {
	return []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, files), "sh"}
}

// loginByKey connects with a board's key, without a library and its buffers.
func (s *server) loginByKey(key nkeys.KeyPair) (_ net.Conn, err error) {
	c, err := net.DialTimeout("tcp", s.nats, patience)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, err
	}
	var info struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		return nil, err
	}
	signature, err := key.Sign([]byte(info.Nonce))
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	_, err = fmt.Fprintf(secure, "CONNECT {\"verbose\":false,\"nkey\":%q,\"sig\":%q}\r\nPING\r\n", public, base64.RawURLEncoding.EncodeToString(signature))
	if err != nil {
		return nil, err
	}
	said, err := bufio.NewReaderSize(secure, 512).ReadString('\n')
	if err == nil && !strings.HasPrefix(said, "PONG") && !strings.HasPrefix(said, "INFO") {
		err = fmt.Errorf("the server says %q", said)
	}
	return secure, err
}

// TestPagesWithoutAStore starts a collector whose engine ended the last run, in a run for endurance for want of files, on a
// store that cannot be opened. It pages at once, without its store; when the store can be opened it is, by itself, and has
// every reading.
func TestPagesWithoutAStore(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	var f *fleet
	var connect func()
	s := onDisk(t, t.TempDir(), k, func(s *server) {
		boards, keys := newFleet(t, s, 1)
		f, connect = boards, func() { boards.connect(keys, nil) }
	})
	f.server = s
	connect()
	b := f.boards[0]
	b.report(time.Now().Add(-time.Minute), 50)
	f.settled(patience)
	if enduring() {
		s.endedByEngine(t)
	} else { // which takes until the next flush
		s.kill()
		s.crashed("panic: FATAL: cannot open snapshots directory: open x: too many open files\n" + engineTrace)
	}
	held := holdStore(t, s)
	restarted := time.Now()
	s.start()
	eventually(t, patience, func() error {
		if !b.conn.IsConnected() {
			return errors.New("the board is not back")
		}
		return nil
	})
	crossed := time.Now()
	b.report(crossed, 85)
	b.report(crossed.Add(time.Millisecond), 86)
	eventually(t, patience, func() error {
		if len(k.keys(b.name)) == 0 {
			return errors.New("no page without a store")
		}
		return nil
	})
	took := time.Since(restarted)
	t.Logf("paged %v after the restart, %v after the crossing", took.Round(time.Millisecond), time.Since(crossed).Round(time.Millisecond))
	if enduring() && took > 10*time.Second { // the board connects again within it
		t.Errorf("the page left %v after the restart, 10 s at most are promised", took)
	}
	f.settled(patience) // acknowledged, too
	if s.metric("bramble_store_open") != 0 {
		t.Error("the store is open")
	}
	if code, _, err := s.request(http.MethodGet, "-/ready", nil); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("ready: %d, %v", code, err)
	}
	eventually(t, patience, func() error {
		if k.told()[""] == 0 {
			return errors.New("nobody is paged that the store is not open")
		}
		return nil
	})
	s.says(t, s.errs, "the store cannot be opened yet")
	held()
	eventually(t, 2*patience, func() error {
		if s.metric("bramble_store_open") != 1 {
			return errors.New("the store is not opened")
		}
		got, err := s.export(`pi_soc_temperature_celsius`, false)
		if err != nil || len(got) != 1 || len(got[0].Values) != 3 {
			return errors.Join(err, fmt.Errorf("%v, want three readings", got))
		}
		return nil
	})
}

// endedByEngine lowers the limit of open files to none while the collector believes in the one that it started with, and waits
// for the store's next flush, by which the engine ends the process.
func (s *server) endedByEngine(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	pid := s.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = 1
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if code := s.exit(t, patience); code == 0 {
		t.Fatal("the process ended well")
	}
	if crash, err := os.ReadFile(filepath.Join(s.dir, "crash.log")); err != nil || !strings.Contains(string(crash), "too many open files") || !strings.Contains(string(crash), "github.com/VictoriaMetrics/") {
		t.Fatalf("it was not the engine that ended the process: %v\n%s", err, crash)
	}
}
