// Package journal keeps acknowledged records until the store has them on disk: an append-only log in segment files, with
// group commit.
//
// It owns the bytes and their order, not their meaning. A record counts only
// when its done function has been called: then it has been fsynced, and so has
// every record before it.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	seglog "bramble/storage/segment"
)

const (
	// interval is the shortest time between two fsyncs. A first record is
	// committed at once; under load the commits of 10 ms share one fsync.
	interval = 10 * time.Millisecond
	// maxPending bounds the bytes that wait for a commit before Ready says no.
	maxPending = 16 << 20
	// retry is how long a failed commit waits before the next try: a full disk
	// is not emptied faster by asking.
	retry = time.Second
)

// DefaultMaxBytes bounds the records that a start has to read before anything is paged: some 100 million readings, three quarters of a
// minute of CPU time.
const DefaultMaxBytes = 512 << 20

// Options of a journal. The zero value works.
type Options struct {
	// MaxBytes is how much the segments may hold before Ready says no: readings that the store has not taken by then are
	// left to the sensors. 0 means DefaultMaxBytes.
	MaxBytes   int64
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	dir     string
	log     *slog.Logger
	metrics metrics
	limit   int64
	segment *segment // owned by Run after Open

	wake chan struct{} // something is pending

	mu      sync.Mutex
	pending []entry
	bytes   int // of the records that are not committed, checkpoints apart
	closed  bool
	end     Position // behind the last committed record
	err     error    // why commits fail at present
	low     error    // why only the reserve is left at present
	held    int64    // bytes of all segments
	long    error    // why there are too many of these at present
}

// entry is a record that waits for its commit.
type entry struct {
	record []byte
	rotate bool // begins a new segment, of which the record is the first
	done   func(end Position)
}

// weight is the entry's share of maxPending. A checkpoint of 100,000 boards alone would reach it.
func (e *entry) weight() int {
	if e.rotate {
		return 0
	}
	return len(e.record)
}

// Open opens the journal in dir, creating it if need be, and calls replay for
// every record in order. A group of records that a crash cut off at the very end
// was never acknowledged and is dropped; damage anywhere else is an error that
// wraps ErrDamaged and names the file and the offset, and nothing is cut. replay
// must not keep the record's bytes.
func Open(dir string, o Options, replay func(record []byte) error) (*Journal, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	last, torn, err := replayAll(dir, replay)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		dir: dir, log: o.Log, metrics: newMetrics(o.Registerer, dir), limit: o.MaxBytes, segment: last, wake: make(chan struct{}, 1),
		end: Position{last.Number, last.Size}, held: size(dir),
	}
	if torn.bytes > 0 {
		j.log.Warn("journal: the end of its last group of records was torn off; unless the disk damaged it later, it was not acknowledged", "file", torn.path, "offset", torn.offset, "bytes", torn.bytes)
	}
	j.secure()
	return j, nil
}

// Append queues a record. It copies the bytes and never waits. done is called
// once the record is on disk, with the position behind it, from the goroutine of
// Run, in the order of the records, and must not block. Append returns an error
// only when Run has ended.
func (j *Journal) Append(record []byte, done func(end Position)) error {
	return j.queue(entry{record: format.AppendRecord(nil, record), done: done})
}

// Rotate begins a new segment whose first record is the checkpoint: the state that all records before it have led to. done
// receives the position behind the checkpoint; when the content of the older segments is safe elsewhere, Remove frees
// them. At the next Open, replay meets the checkpoint as a record. Where no new segment can be begun, as on a full disk,
// the checkpoint stays a record of the old one.
func (j *Journal) Rotate(checkpoint []byte, done func(end Position)) error {
	return j.queue(entry{record: format.AppendRecord(nil, checkpoint), rotate: true, done: done})
}

// After queues a done function without a record: it is called once every
// record before it is on disk.
func (j *Journal) After(done func(end Position)) error { return j.queue(entry{done: done}) }

func (j *Journal) queue(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errors.New("append to journal: it is closed")
	}
	j.pending = append(j.pending, e)
	j.bytes += e.weight()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return nil
}

// Err returns why records cannot be committed at present, or why those that can
// come later should not be, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.low, j.long)
}

// Failing returns why records cannot even be committed from the reserve, or nil.
func (j *Journal) Failing() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Ready returns nil while there is space for records that could also come later, else why they should: commits fail, the
// disk is slow, only the reserve for urgent records is left, or the segments hold too much already.
func (j *Journal) Ready() error {
	if err := j.Rotatable(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.long
}

// Rotatable returns nil while there is space for a checkpoint. A journal that is too long has it: a rotation and Remove
// are its way out.
func (j *Journal) Rotatable() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.bytes > maxPending {
		return errBusy
	}
	if j.err != nil {
		return j.err
	}
	return j.low
}

var errBusy = errors.New("the disk is slower than what is to be written to it")

// Run commits appended records until ctx ends, and then once more. A failing disk is reported by Err and retried for ever:
// nothing is dropped.
func (j *Journal) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-j.wake:
		case <-j.lookAgain():
		}
		started := time.Now()
		j.commitAll(ctx)
		j.secure()
		if wait(ctx, interval-time.Since(started)) != nil {
			break
		}
	}
	return j.shut()
}

// shut takes no more records, commits the pending ones, and closes the file.
func (j *Journal) shut() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	_, err := j.commit(j.take())
	if err == nil {
		err = j.segment.seal()
	}
	return errors.Join(err, j.segment.Finish())
}

// commitAll commits the pending records, without a time limit.
func (j *Journal) commitAll(ctx context.Context) {
	batch := j.take()
	for len(batch) > 0 {
		rest, err := j.commit(batch)
		j.report(err)
		if err != nil && wait(ctx, retry) != nil {
			j.putBack(rest)
			return
		}
		batch = rest
	}
}

func (j *Journal) take() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch := j.pending
	j.pending = nil
	return batch
}

func (j *Journal) putBack(batch []entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(batch, j.pending...)
}

// commit writes a batch group by group, one fsync each, and returns the entries that it could not write.
func (j *Journal) commit(batch []entry) (rest []entry, err error) {
	for len(batch) > 0 {
		n := 1
		for n < len(batch) && !batch[n].rotate { // a rotation begins a group
			n++
		}
		if err := j.write(batch[:n]); err != nil {
			return batch, err
		}
		batch = batch[n:]
	}
	return nil, nil
}

// write commits a group, of which only the first entry may rotate, and then
// calls every done. On an error nothing has been called and the segments are
// as they were.
func (j *Journal) write(group []entry) error {
	started := time.Now()
	rotated := group[0].rotate && j.rotate(group)
	if !rotated {
		if err := j.segment.append(group); err != nil {
			return err
		}
	}
	j.metrics.observe(group, time.Since(started))
	at := j.committed(group)
	for _, e := range group {
		at.Offset += int64(len(e.record))
		e.done(at)
	}
	return nil
}

// committed notes that a group is on disk, and returns where its first record begins.
func (j *Journal) committed(group []entry) Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for i := range group {
		n += len(group[i].record)
		j.bytes -= group[i].weight()
	}
	if n > 0 {
		j.held += int64(seglog.MarkSize + n)
	}
	j.end = Position{j.segment.Number, j.segment.Size}
	return Position{j.end.Segment, j.end.Offset - int64(n)}
}

// rotate commits a group to a new segment, and reports whether there is one.
func (j *Journal) rotate(group []entry) bool {
	next, err := createSegment(j.dir, j.segment.Number+1)
	if err == nil {
		if err = next.append(group); err != nil {
			err = errors.Join(err, next.Discard())
		}
	}
	if err != nil {
		j.log.Warn("journal: no new segment is begun, the old one goes on", "err", err)
		return false
	}
	if err := j.segment.Finish(); err != nil {
		j.log.Warn("journal: close the old segment", "err", err)
	}
	j.segment = next
	return true
}

// report logs when commits begin to fail and when they work again.
func (j *Journal) report(err error) {
	j.mu.Lock()
	was := j.err
	j.err = err
	j.mu.Unlock()
	switch {
	case err != nil && was == nil:
		j.log.Error("journal: readings cannot be committed; sensors keep them until they can", "err", err)
	case err == nil && was != nil:
		j.log.Info("journal: readings are committed again")
	}
}

// Remove deletes all segments before the given one.
func (j *Journal) Remove(before uint64) error {
	numbers, err := format.Numbers(j.dir)
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	for _, n := range numbers {
		if n < before {
			err = errors.Join(err, os.Remove(format.Path(j.dir, n)))
		}
	}
	j.remeasure()
	return err
}

// remeasure counts the segments anew, and has Run look at their length. Records that are being committed may count twice.
func (j *Journal) remeasure() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = size(j.dir)
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
