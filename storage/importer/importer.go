// Package importer takes rows of other programs over HTTP and stores them.
//
// It guarantees that a request which was answered 204 is on disk, and that no row passes for one of the
// collector's own. It refuses metrics and labels that are reserved, malformed requests, rows outside the
// retention, and more new series than a day may bring; each is counted by reason. It reads nothing.
package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/internal/promapi"
)

const (
	// maxImports may run at one time; more are asked to come again.
	maxImports = 4
	// importTime ends an import whose client is slow.
	importTime = 10 * time.Minute
	// importPause is the shortest time between two barriers that importers ask for: other writers wait meanwhile.
	importPause = 500 * time.Millisecond
	// maxDetail bounds the words of an answer about the first row that was refused.
	maxDetail = 300
	// importBatch rows go into the store at once.
	importBatch = 10_000
)

// Target stores imported rows, as *storage.Store and *remote.Store do.
type Target interface {
	Add(rows []storage.Row) error
	Barrier() error
}

// Options configures [New].
type Options struct {
	Store Target
	// Retention is how far back the store takes rows; older ones are refused. 0 leaves that to the store.
	Retention time.Duration
	// Log receives internal failures; nil discards them. Registerer receives the metrics; nil registers none.
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Importer takes rows of other exporters over HTTP: Prometheus remote write, VictoriaMetrics' JSON lines, Prometheus'
// text format, CSV.
//
// It refuses, and counts by reason, what could be mistaken for the collector's own: metrics that begin with pi_,
// pisensor_ or bramble_, and the labels board and customer; also what is malformed, too long, outside the times that
// the store takes, or one series too many. All other rows of a request are stored. It answers 204 when they are on
// disk: what was acknowledged survives kill -9. A request that was cut off can be sent again, since a row counts once.
//
// All methods may be called from any goroutine.
type Importer struct {
	options Options
	slots   chan struct{}
	series  seriesBudget
	metrics *importMetrics
	barrier groupBarrier
}

// New checks nothing and starts nothing; it fails where the metrics cannot be registered.
func New(o Options) (*Importer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newImportMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	im := &Importer{options: o, slots: make(chan struct{}, maxImports), metrics: m}
	im.barrier.flush = o.Store.Barrier
	return im, nil
}

// Handler serves POST /api/v1/write, /api/v1/import, /api/v1/import/prometheus and /api/v1/import/csv. It does not
// authenticate.
func (im *Importer) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, read := range map[string]reader{
		"/api/v1/write": readRemoteWrite, "/api/v1/import": readJSONLines, "/api/v1/import/prometheus": readText,
		"/api/v1/import/csv": readCSV,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { im.serve(w, r, read) })
	}
	mux.HandleFunc("/", promapi.NotFound)
	return mux
}

// reader reads a request and hands its rows to t. Its error is the client's: a body that cannot be understood at all.
type reader func(r *http.Request, t *tally) error

// errTooMany is answered while others import.
var errTooMany = fmt.Errorf("%d imports run already: come again", maxImports)

func (im *Importer) serve(w http.ResponseWriter, r *http.Request, read reader) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		im.answer(w, http.StatusMethodNotAllowed, errors.New("method is not allowed: use POST"))
		return
	}
	select {
	case im.slots <- struct{}{}:
		defer func() { <-im.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		im.answer(w, http.StatusTooManyRequests, errTooMany)
		return
	}
	// Not every connection has deadlines; those of the server do.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(importTime))
	t := &tally{importer: im, now: time.Now(), refused: map[string]int{}}
	err := read(r, t)
	if err == nil {
		err = t.flush()
	}
	if err == nil && t.stored > 0 {
		err = im.barrier.wait(r.Context())
	}
	im.conclude(w, t, err)
}

// conclude answers an import.
func (im *Importer) conclude(w http.ResponseWriter, t *tally, err error) {
	var bad *badImport
	switch {
	case errors.As(err, &bad):
		im.answer(w, bad.status, err)
	case errors.Is(err, storage.ErrReadOnly), errors.Is(err, storage.ErrClosed), errors.Is(err, storage.ErrNotOpen), errors.Is(err, storage.ErrNoFiles), errors.Is(err, context.Canceled):
		w.Header().Set("Retry-After", "5")
		im.answer(w, http.StatusServiceUnavailable, fmt.Errorf("nothing is promised of this request, send it again: %w", err))
	case err != nil:
		im.options.Log.Error("import failed", "err", err)
		im.answer(w, http.StatusInternalServerError, errors.New("nothing is promised of this request, send it again: the collector's log says why"))
	case len(t.refused) > 0:
		im.answer(w, http.StatusBadRequest, t.complaint())
	default:
		im.metrics.requests.WithLabelValues("204").Inc()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (im *Importer) answer(w http.ResponseWriter, status int, err error) {
	im.metrics.requests.WithLabelValues(fmt.Sprint(status)).Inc()
	promapi.Fail(w, status, err)
}

// badImport is an error of the client.
type badImport struct {
	status int
	error
}

func bad(format string, args ...any) error {
	return &badImport{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// tally takes the rows of one request.
type tally struct {
	importer *Importer
	now      time.Time
	rows     []storage.Row
	stored   int
	left     int // NaN, of them Prometheus' stale markers
	refused  map[string]int
	first    string // the first one that was refused
}

// refuse counts n rows that are not stored.
func (t *tally) refuse(reason, detail string, n int) {
	if t.first == "" {
		t.first = detail[:min(len(detail), maxDetail)]
	}
	t.refused[reason] += n
	t.importer.metrics.refused.WithLabelValues(reason).Add(float64(n))
}

// complaint names the rows that were not stored.
func (t *tally) complaint() error {
	counts, _ := json.Marshal(t.refused) // a map of strings to numbers
	return fmt.Errorf("stored %d rows and refused %s; first: %s", t.stored, counts, t.first)
}

// flush stores the collected rows.
func (t *tally) flush() error {
	if len(t.rows) == 0 {
		return nil
	}
	if err := t.importer.options.Store.Add(t.rows); err != nil {
		return err
	}
	t.stored += len(t.rows)
	t.importer.metrics.rows.Add(float64(len(t.rows)))
	t.rows = t.rows[:0]
	return nil
}

// groupBarrier lets all that ask meanwhile share a barrier.
type groupBarrier struct {
	flush func() error
	turn  sync.Mutex // held by the caller that runs the barrier; guards ended
	ended time.Time

	mu   sync.Mutex // guards next
	next *sharedBarrier
}

type sharedBarrier struct {
	done chan struct{}
	err  error
}

// wait returns after a barrier that began after the call.
func (g *groupBarrier) wait(ctx context.Context) error {
	g.mu.Lock()
	b, leads := g.next, false
	if b == nil {
		b, leads = &sharedBarrier{done: make(chan struct{})}, true
		g.next = b
	}
	g.mu.Unlock()
	if leads {
		g.run(b)
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *groupBarrier) run(b *sharedBarrier) {
	g.turn.Lock()
	defer g.turn.Unlock()
	if pause := importPause - time.Since(g.ended); pause > 0 {
		<-time.After(pause)
	}
	g.mu.Lock()
	g.next = nil // later callers need the next one
	g.mu.Unlock()
	b.err = errors.New("the store was not flushed: a fault in the collector")
	defer close(b.done) // after a panic too: others wait for it
	b.err = g.flush()
	g.ended = time.Now()
}
