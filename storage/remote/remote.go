// Package remote keeps time series in a VictoriaMetrics server, or a cluster of them, elsewhere, by way
// of a queue on this disk.
//
// It owns the queue's directory and guarantees that a row taken by [Store.Add] and covered by a
// [Store.Barrier] reaches the server, whether this process or that one is killed: a row leaves the queue
// when a server that took it has run on for a while. It refuses rows while the disk is nearly full, and
// queries while the server does not answer. It deletes nothing elsewhere.
package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/fs"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"bramble/storage"
	"bramble/storage/internal/lifecycle"
	"bramble/storage/series"
)

const (
	// DefaultKeep is how long a remote must have run on, after it took rows, before they are forgotten here.
	// VictoriaMetrics writes what it took to disk after 5 s (-inmemoryDataFlushInterval); 12 s were the most seen.
	DefaultKeep = time.Minute
	// MinKeep is twice the most that was seen.
	MinKeep = 24 * time.Second

	// requestBytes is the size, before compression, at which a request is closed. A remote takes 32 MiB.
	requestBytes = 1 << 20
	// gatherTime is how long rows wait for others that share their request.
	gatherTime = 100 * time.Millisecond
	// dialTime ends an attempt to connect to a host that is away.
	dialTime = 10 * time.Second
)

// Options configures [Open].
type Options struct {
	// Dir holds the rows that the remote has not yet safely got. It is created where it is missing.
	Dir string
	// Write is the base URL below which /api/v1/write lies: http://vm:8428, or of a cluster
	// http://vminsert:8480/insert/0/prometheus.
	Write string
	// Read is the base URL below which /api/v1/query lies; "" means Write. Of a cluster it is
	// http://vmselect:8481/select/0/prometheus.
	Read string
	// Nodes are the base URLs, with /metrics below them, of the processes that hold the rows in memory: those of a
	// cluster's vmstorage. None means Write.
	Nodes []string
	// Client holds credentials and TLS settings for all of these URLs.
	Client promconfig.HTTPClientConfig
	// Keep is how long rows are kept here after the remote took them, at least MinKeep. 0 means DefaultKeep.
	Keep time.Duration
	// MinFreeBytes is the free disk space below which Add refuses rows. 0 means storage.DefaultMinFreeBytes.
	MinFreeBytes int64
	// Log receives transitions; nil discards them. Registerer receives the metrics until Close; nil registers none.
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Check returns the options with their defaults, or an error that names a wrong one.
func (o Options) Check() (Options, error) {
	if o.Read == "" {
		o.Read = o.Write
	}
	if len(o.Nodes) == 0 {
		o.Nodes = []string{o.Write}
	}
	for _, to := range []*string{&o.Write, &o.Read} {
		if err := checkBase(to); err != nil {
			return o, err
		}
	}
	for i := range o.Nodes {
		if err := checkBase(&o.Nodes[i]); err != nil {
			return o, err
		}
	}
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	if o.Keep < MinKeep {
		return o, fmt.Errorf("keep %s is too short: a remote holds rows in memory for up to 12s, at least %s is needed", o.Keep, MinKeep)
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = storage.DefaultMinFreeBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// checkBase refuses any other URL than a base URL, and takes the slash at its end off.
func checkBase(to *string) error {
	u, err := url.Parse(*to)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not a base URL such as http://victoria-metrics:8428", *to)
	}
	if u.User != nil {
		return fmt.Errorf("the URL of %s holds credentials: put them into a file", u.Host)
	}
	*to = strings.TrimSuffix(*to, "/")
	return nil
}

// Store is a VictoriaMetrics server, or a cluster of them, by URL. It promises what [storage.Store] does, with three
// differences, since the remote is a process of its own:
//
//   - Rows go to a queue on this disk first, and from there to the remote. Barrier makes the queue durable. A row
//     leaves the queue only when a remote that took it has run on for Options.Keep; when it was restarted
//     sooner, the row is sent again. So neither a remote that is down nor one that is killed loses a row.
//   - A query asks the remote and sees a row some seconds after it was taken there.
//   - Sending again doubles rows in a remote that does not deduplicate: it needs -dedup.minScrapeInterval=1ms.
//
// All methods may be called from any goroutine.
type Store struct {
	options Options
	log     *slog.Logger
	client  *http.Client
	handler http.Handler
	metrics *metrics
	queue   *queue
	gate    lifecycle.Gate

	stop     context.CancelFunc
	stopped  sync.WaitGroup
	state    state
	readOnly lifecycle.Transition

	mu    sync.Mutex // guards the fields that follow
	body  []byte     // the request that gathers rows, not yet compressed
	rows  int        // in body
	names nameReader
}

// Open opens the queue in o.Dir, the remote's own process need not answer, and starts sending what is there. The
// caller closes it.
func Open(o Options) (*Store, error) {
	o, err := o.Check()
	if err != nil {
		return nil, fmt.Errorf("open remote store: %w", err)
	}
	return open(o)
}

// open opens a store with options that were checked.
func open(o Options) (*Store, error) {
	dialer := &net.Dialer{Timeout: dialTime}
	client, err := promconfig.NewClientFromConfig(o.Client, "remote-store", promconfig.WithDialContextFunc(dialer.DialContext))
	if err != nil {
		return nil, fmt.Errorf("open remote store %s: %w", o.Write, err)
	}
	q, err := openQueue(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open remote store %s: %w", o.Write, err)
	}
	r := &Store{options: o, log: o.Log, client: client, queue: q}
	r.metrics = newMetrics(r)
	if r.handler, err = r.routes(); err == nil {
		err = r.metrics.Register(o.Registerer, r.metrics)
	}
	if err != nil {
		return nil, fmt.Errorf("open remote store %s: %w", o.Write, errors.Join(err, q.close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.stopped.Go(func() { r.gather(ctx) })
	r.stopped.Go(func() { r.send(ctx) })
	return r, nil
}

// Add queues rows, all of them or none; the next [Store.Barrier] makes them durable. NaNs are left out and counted.
// Add returns [storage.ErrReadOnly] while the disk is nearly full, or [storage.ErrClosed]; it never waits for the remote. It keeps no
// reference to rows.
func (r *Store) Add(rows []storage.Row) error {
	if err := r.gate.Enter(); err != nil {
		return err
	}
	defer r.gate.Leave()
	if r.full() {
		return storage.ErrReadOnly
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, had := len(r.body), r.rows
	for len(rows) > 0 {
		var n, nans int
		var err error
		if r.body, n, nans, err = r.names.encode(r.body, rows); err == nil {
			r.rows += n - nans
			r.metrics.nans.Add(uint64(nans))
			rows = rows[n:]
			if len(r.body) < requestBytes {
				continue
			}
			if err = r.closeRequest(); err == nil {
				before, had = 0, 0 // the rows that the call has added so far are queued: adding them again is harmless
			}
		}
		if err != nil {
			r.body, r.rows = r.body[:before], had
			return fmt.Errorf("queue rows for %s: %w", r.options.Write, asReadOnly(err))
		}
	}
	return nil
}

// Record is [Store.Add] for callers that know no engine, such as recording rules.
func (r *Store) Record(samples []series.Sample) error { return r.Add(storage.RowsOf(samples)) }

// closeRequest puts the gathered rows into the queue. The caller holds mu.
func (r *Store) closeRequest() error {
	if r.rows == 0 {
		r.body = r.body[:0]
		return nil
	}
	if err := r.queue.append(r.body, r.rows); err != nil {
		return err
	}
	r.body, r.rows = r.body[:0], 0
	return nil
}

// gather closes requests that nobody else fills.
func (r *Store) gather(ctx context.Context) {
	tick := time.NewTicker(gatherTime)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		err := r.closeRequest()
		r.mu.Unlock()
		if (err != nil) != failing {
			failing = err != nil
			r.log.Warn("rows queued for the remote store", "failing", failing, "err", err)
		}
	}
}

// Barrier returns after all rows of every Add that returned before are on this disk, synced. It says nothing about
// the remote.
func (r *Store) Barrier() error {
	if err := r.gate.Enter(); err != nil {
		return err
	}
	defer r.gate.Leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.closeRequest(), r.queue.sync()); err != nil {
		return fmt.Errorf("flush the queue for %s: %w", r.options.Write, err)
	}
	return nil
}

// Close makes what was added durable in the queue and stops sending. Running queries finish or, after five seconds,
// lose their connection. Closing twice is harmless.
func (r *Store) Close() error {
	var err error
	r.gate.Close(lifecycle.CloseGrace, func() {
		r.stop()
		r.stopped.Wait()
		r.metrics.Unregister()
		r.mu.Lock()
		defer r.mu.Unlock()
		err = errors.Join(r.closeRequest(), r.queue.sync(), r.queue.close())
		r.client.CloseIdleConnections()
	})
	return err
}

// Err returns why rows do not reach the remote at present, or nil.
func (r *Store) Err() error { return r.state.failure() }

// full reports whether the queue must not grow, and logs when that changes.
func (r *Store) full() bool {
	free := fs.MustGetFreeSpace(r.options.Dir)
	full := free < uint64(r.options.MinFreeBytes)
	if r.readOnly.Changed(full) {
		if full {
			r.log.Warn("the queue for the remote store is full, free disk space is below the limit", "dir", r.options.Dir, "free_bytes", free, "limit_bytes", r.options.MinFreeBytes)
		} else {
			r.log.Info("the queue for the remote store takes rows again", "dir", r.options.Dir, "free_bytes", free)
		}
	}
	return full
}
