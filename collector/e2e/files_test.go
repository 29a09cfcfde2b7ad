package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStrangersTakeNoFilesFromPages opens more connections than the limit of open files has room for, at the boards' port and
// at the pages': boards that are connected are acknowledged and page, the store is copied, and the log
// says once what is missing.
func TestStrangersTakeNoFilesFromPages(t *testing.T) {
	t.Parallel()
	const limit, strangers = 420, 300
	k := newSink(t)
	var f *fleet
	var connect func()
	s := onDiskUnder(t, []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, limit), "sh"}, t.TempDir(), k, func(s *server) {
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

// TestPagesWithoutAStore starts a collector whose engine ended the last run, on a store that cannot be opened. It pages at
// once, without its store; when the store can be opened it is, by itself, and has every reading.
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
	s.kill()
	held := holdStore(t, s)
	s.crashed("panic: FATAL: cannot open snapshots directory: open x: too many open files\n" + engineTrace)
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
	t.Logf("paged %v after the crossing", time.Since(crossed))
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
