package storage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

func TestEachAddIsVisibleToTheNextQuery(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	now := time.Now()
	for i := range 30 { // a new series each time: its index entry has to be visible too
		board := fmt.Sprint("b", i)
		storagetest.Add(t, s, []storage.Row{{Series: storagetest.Temperature(board), At: now.UnixMilli(), Value: float64(i)}})
		if got := storagetest.Number(t, s, `pi_soc_temperature_celsius{board="`+board+`"}`, now); got != float64(i) {
			t.Fatalf("row %d: got %v", i, got)
		}
	}
}

func TestThreeDeliveriesCountOnce(t *testing.T) {
	dir := t.TempDir()
	start := storagetest.AnHourAgo()
	delivered := storagetest.Rows(storagetest.Temperature("b1"), start, 1000)
	count := func(s *storage.Store) float64 {
		return storagetest.Number(t, s, `count_over_time(pi_soc_temperature_celsius[2000s])`, start.Add(1000*time.Second))
	}
	s := storagetest.Open(t, dir, storage.Options{})
	storagetest.Add(t, s, delivered)
	storagetest.Add(t, s, delivered[500:])
	if got := count(s); got != 1000 {
		t.Fatalf("in memory: %v rows, want 1000", got)
	}
	if err := s.Barrier(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = storagetest.Open(t, dir, storage.Options{})
	storagetest.Add(t, s, delivered)
	if got := count(s); got != 1000 {
		t.Fatalf("after a restart: %v rows, want 1000", got)
	}
}

func TestStoresDoNotSeeEachOther(t *testing.T) {
	now := storagetest.AnHourAgo()
	var open8 []*storage.Store
	for i := range 8 {
		s := storagetest.Open(t, t.TempDir(), storage.Options{})
		storagetest.Add(t, s, []storage.Row{{Series: storagetest.Temperature("b1"), At: now.UnixMilli(), Value: float64(i)}})
		open8 = append(open8, s)
	}
	for range 3 { // the later rounds find the first one's cached answers
		for i, s := range open8 {
			if got := storagetest.Number(t, s, `pi_soc_temperature_celsius`, now); got != float64(i) {
				t.Fatalf("store %d answers %v", i, got)
			}
			if _, err := s.Query(context.Background(), `pi_soc_temperature_celsius{__bramble_store__="1"}`, now); i > 0 && err == nil {
				t.Fatalf("store %d let a query pick another store", i)
			}
		}
	}
}

func TestGraphiteSelectorsAreErrors(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	if _, err := s.Query(context.Background(), `{__graphite__="a.*"}`, time.Now()); err == nil {
		t.Error("a Graphite selector was accepted")
	}
}
