package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// TestAllAtOnce adds, queries, asks over HTTP and makes barriers from many goroutines, on two stores that
// are closed in the middle of it. What was added and covered by a barrier before must be there afterwards.
func TestAllAtOnce(t *testing.T) {
	start := storagetest.AnHourAgo()
	dirs := []string{t.TempDir(), t.TempDir()}
	var wg sync.WaitGroup
	for i, dir := range dirs {
		s := storagetest.Open(t, dir, storage.Options{})
		wg.Go(func() { busy(t, s, serve(t, s), start, i) })
	}
	wg.Wait()
	for i, dir := range dirs {
		s := storagetest.Open(t, dir, storage.Options{})
		for w := range writers {
			expr := fmt.Sprintf(`count_over_time(pi_soc_temperature_celsius{board="s%dw%d"}[1h])`, i, w)
			if got := storagetest.Number(t, s, expr, start.Add(writes*10*time.Second)); got != writes*10 {
				t.Errorf("%s: %v rows, want %d", expr, got, writes*10)
			}
		}
		if got := storagetest.Number(t, s, `count(pi_soc_temperature_celsius)`, start.Add(time.Minute)); got != writers {
			t.Errorf("store %d: %v series, want %d", i, got, writers)
		}
	}
}

const (
	writers = 3
	writes  = 30 // of 10 rows each
)

// busy runs the readers until the writers are done, and closes the store under the readers.
func busy(t *testing.T, s *storage.Store, url string, start time.Time, id int) {
	var adding, reading sync.WaitGroup
	for w := range writers {
		adding.Go(func() {
			series := storagetest.Temperature(fmt.Sprintf("s%dw%d", id, w))
			for n := range writes {
				if err := s.Add(storagetest.Rows(series, start.Add(time.Duration(n)*10*time.Second), 10)); err != nil {
					t.Error(err)
				}
				if n%10 == w {
					if err := s.Barrier(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() { queryUntilClosed(t, s, start) })
		reading.Go(func() { askUntilClosed(t, url) })
	}
	adding.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	reading.Wait()
}

func queryUntilClosed(t *testing.T, s *storage.Store, start time.Time) {
	for {
		_, err := s.QueryRange(context.Background(), `max by (board) (pi_soc_temperature_celsius)`, start, start.Add(time.Hour), time.Second)
		if errors.Is(err, storage.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

func askUntilClosed(t *testing.T, url string) {
	for {
		resp, err := http.Get(url + "/api/v1/export?match[]=pi_soc_temperature_celsius&start=-2h")
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
			return
		}
	}
}

// TestCloseCutsAStalledDownload closes a store while a client that reads nothing holds an export open.
func TestCloseCutsAStalledDownload(t *testing.T) {
	t.Parallel()
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	start := time.Now().Add(-300 * time.Hour).Truncate(time.Second)
	for b := range 20 { // some 20 MB of JSON: more than socket buffers hold
		storagetest.Add(t, s, storagetest.Rows(storagetest.Temperature(fmt.Sprint("b", b)), start, 50_000))
	}
	resp, err := http.Get(serve(t, s) + "/api/v1/export?match[]=pi_soc_temperature_celsius&start=0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Fatal("the download ended well, so it was not stalled")
	}
}
