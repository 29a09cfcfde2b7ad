package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	text "github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"
)

const (
	lookTime = 5 * time.Second
	// maxMetrics bounds the part of a /metrics page that is read.
	maxMetrics = 16 << 20
	// youngest is the uptime, in seconds, from which a start time given in whole seconds names one process alone:
	// whatever is started later has another.
	youngest = 2
	// keepFactor times its flush interval is the least that a remote needs to have rows on disk; of its default of
	// 5 s that is a minute.
	keepFactor = 12
)

// dedup is whether a remote deduplicates.
type dedup int

const (
	dedupUnknown dedup = iota
	dedupOff
	dedupCoarse // it drops rows that are not the same
	dedupOn
)

// facts are those of the /metrics pages of the remote's nodes.
type facts struct {
	who   string // their start times
	blind bool   // these do not tell when rows may have been lost
	why   string // it is blind
	dedup dedup
	flush time.Duration // the longest interval at which one of them writes to disk
}

// look reads all of them. It fails while one does not answer, or is too young to be told from its predecessor.
func (r *Store) look(ctx context.Context) (facts, error) {
	all := facts{dedup: dedupOn}
	for _, node := range r.options.Nodes {
		one, err := r.lookAt(ctx, node)
		if err != nil {
			return all, fmt.Errorf("look at the remote store %s: %w", node, err)
		}
		all.who += node + "=" + one.who + " "
		all.dedup = min(all.dedup, one.dedup)
		all.flush = max(all.flush, one.flush)
		if one.blind {
			all.blind, all.why = true, node+": "+one.why
		}
	}
	return all, nil
}

func (r *Store) lookAt(ctx context.Context, node string) (facts, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/metrics", nil)
	if err != nil {
		return facts{}, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return facts{}, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
	switch {
	case err != nil:
		return facts{}, err
	case resp.StatusCode/100 == 5: // a proxy whose server is away
		return facts{}, errors.New(resp.Status)
	case resp.StatusCode != http.StatusOK:
		return facts{blind: true, why: "/metrics answers " + resp.Status}, nil
	}
	return readFacts(string(page))
}

// readFacts takes them from a page in Prometheus' text format.
func readFacts(page string) (f facts, err error) {
	var rows text.Rows
	rows.UnmarshalWithErrLogger(page, func(string) {}) // lines that cannot be read are not those that are looked for
	uptime, holdsRows, flags := 0.0, false, map[string]string{}
	for i := range rows.Rows {
		row := &rows.Rows[i]
		switch row.Metric {
		case "vm_app_start_timestamp":
			f.who = strconv.FormatFloat(row.Value, 'f', -1, 64)
		case "vm_app_uptime_seconds":
			uptime = row.Value
		case "vm_rows":
			holdsRows = holdsRows || strings.HasPrefix(tagOf(row, "type"), "storage/")
		case "flag":
			flags[tagOf(row, "name")] = tagOf(row, "value")
		}
	}
	switch {
	case f.who == "":
		f.blind, f.why = true, "/metrics has no vm_app_start_timestamp"
	case !holdsRows:
		f.blind, f.why = true, "this process holds no rows (no vm_rows in /metrics)"
	case uptime < youngest:
		return f, errYoung
	}
	f.dedup = readDedup(flags["dedup.minScrapeInterval"])
	f.flush, _ = time.ParseDuration(flags["inmemoryDataFlushInterval"]) // 0 where it is not shown
	return f, nil
}

func tagOf(row *text.Row, name string) string {
	for i := range row.Tags {
		if row.Tags[i].Key == name {
			return row.Tags[i].Value
		}
	}
	return ""
}

func readDedup(flag string) dedup {
	d, err := time.ParseDuration(flag)
	switch {
	case err != nil:
		return dedupUnknown
	case d <= 0:
		return dedupOff
	case d > time.Millisecond:
		return dedupCoarse
	}
	return dedupOn
}
