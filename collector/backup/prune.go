package backup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Keep says how many good backups are kept: the newest of each of the last days, weeks and months that have one.
type Keep struct {
	Daily   int `yaml:"daily"`
	Weekly  int `yaml:"weekly"`
	Monthly int `yaml:"monthly"`
}

// DefaultKeep reaches a year back with 23 backups at most.
var DefaultKeep = Keep{Daily: 7, Weekly: 4, Monthly: 12}

// graceful is the age up to which no good backup is removed.
const graceful = 24 * time.Hour

// period names the day, week or month of a backup, UTC.
type period func(time.Time) string

func day(t time.Time) string   { return t.UTC().Format("2006-01-02") }
func month(t time.Time) string { return t.UTC().Format("2006-01") }
func week(t time.Time) string {
	year, n := t.UTC().ISOWeek()
	return fmt.Sprint(year, " week ", n)
}

// expired returns those of the entries, the newest first, that need not be kept. The newest good one always is, and
// so are all good ones of the last 24 hours, the newest of those that are not good, for a look at it, the spared one,
// and those that are not known to be of this collector.
func expired(entries []Entry, k Keep, pin, spare string, now time.Time) []Entry {
	keep := map[string]bool{spare: true}
	mark := func(n int, of period) {
		seen := map[string]bool{}
		for _, e := range entries {
			if !e.Good() || e.Manifest.Pin != pin {
				continue
			}
			if b := of(e.Manifest.Taken); !seen[b] && len(seen) < n {
				seen[b], keep[e.Name] = true, true
			}
		}
	}
	mark(max(k.Daily, 1), day) // at least the newest good one
	mark(k.Weekly, week)
	mark(k.Monthly, month)
	var gone []Entry
	evidence := false
	for _, e := range entries {
		switch {
		case e.Manifest == nil || e.Manifest.Pin != pin || keep[e.Name]:
		case e.Good() && now.Sub(e.Manifest.Taken) <= graceful:
		case !e.Good() && !evidence:
			evidence = true
		default:
			gone = append(gone, e)
		}
	}
	return gone
}

// prune removes the expired backups.
func (k *Keeper) prune(ctx context.Context, now time.Time) error {
	k.busy.Lock() // a backup that somebody asks for waits, rather than finds the target taken
	defer k.busy.Unlock()
	p, release, err := k.takeTarget(ctx)
	if err != nil {
		return err
	}
	defer release()
	entries, err := listOf(ctx, p)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range expired(entries, k.config.Keep, k.source.Pin, k.source.Spare, now) {
		if err := p.remove(ctx, e.Name); err != nil {
			errs = append(errs, fmt.Errorf("remove backup %s: %w", e.Name, err))
			continue
		}
		k.log.Info("backup removed, newer ones replace it", "backup", e.Name)
	}
	return errors.Join(errs...)
}
