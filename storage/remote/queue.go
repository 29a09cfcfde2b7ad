package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"

	"bramble/storage/segment"
)

// queueFormat is that of the queue's segments. A group is the requests that one sync commits. A record
// is a request: its rows, 32 bits little-endian, which its length does not count, and its body: remote
// write's protobuf, compressed by zstd as VictoriaMetrics takes it.
var queueFormat = segment.Format{
	Magic:     "requests",
	Suffix:    ".queue",
	Extra:     rowsSize,
	MaxRecord: 64 << 20, // far above what is written
}

const (
	rowsSize = 4
	// segmentBytes and segmentTime bound a segment: rows are removed by whole segments.
	segmentBytes = 16 << 20
	segmentTime  = 10 * time.Second
	// queueLevel is zstd's fastest.
	queueLevel = 1
)

// ErrDamagedQueue is wrapped by [Open] where a file of the queue is damaged.
var ErrDamagedQueue = errors.New("damaged queue for the remote store")

// queue keeps requests on disk until the remote has them safely. One goroutine reads; any may append.
type queue struct {
	dir string
	// wake receives after something was appended.
	wake chan struct{}

	mu       sync.Mutex
	segments []*queueSegment // oldest first; the last one is written to
	file     *segment.File   // the last one
	dirty    bool            // something is not synced
	marked   bool            // the bytes that are not synced have their mark
	buffer   []byte
}

// queueSegment is one file. Its fields are guarded by the queue's mutex.
type queueSegment struct {
	number uint64
	salt   segment.Salt
	size   int64 // bytes of whole requests
	rows   uint64
	born   time.Time // of its first request; at a start, when its file last changed
}

// place is where a reader stands.
type place struct {
	segment uint64
	offset  int64
}

// openQueue opens the queue in dir and creates it where there is none. A torn end, which no barrier covered, is cut off;
// damage before it is an error that wraps ErrDamagedQueue and names file and offset, and nothing is cut.
func openQueue(dir string) (*queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the queue: %w", err)
	}
	q := &queue{dir: dir, wake: make(chan struct{}, 1)}
	numbers, err := queueFormat.Numbers(dir)
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	next := uint64(1)
	for i, n := range numbers {
		s, err := q.load(n, i == len(numbers)-1)
		if err != nil {
			return nil, err
		}
		if s != nil {
			q.segments = append(q.segments, s)
		}
		next = n + 1
	}
	return q, q.begin(next)
}

func (q *queue) path(number uint64) string { return queueFormat.Path(q.dir, number) }

// load looks at a whole file, cuts its torn end off, and removes it if it holds nothing.
func (q *queue) load(number uint64, last bool) (*queueSegment, error) {
	path := q.path(number)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	s := &queueSegment{number: number, born: info.ModTime()}
	s.size, _, err = queueFormat.ReadAll(path, last, func(request []byte) error {
		rows, _ := parseRequest(request)
		s.rows += uint64(rows)
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: file %s, offset %d: %w; no backup has the queue: to go on without the rows of this file: mv %s %s.damaged", ErrDamagedQueue, path, s.size, err, path, path)
	case s.rows == 0:
		return nil, os.Remove(path)
	}
	f, _, err := queueFormat.Reopen(q.dir, number, s.size) // the next one is written to
	if err != nil {
		return nil, fmt.Errorf("cut the torn end of the queue: %w", err)
	}
	s.salt = f.Salt
	return s, f.Close()
}

// parseRequest returns a record's rows and its body.
func parseRequest(record []byte) (rows uint32, body []byte) {
	return binary.LittleEndian.Uint32(record), record[rowsSize:]
}

// begin makes a segment the one that is written to. The caller holds mu, or is alone.
func (q *queue) begin(number uint64) error {
	f, err := queueFormat.Create(q.dir, number, nil)
	if err != nil {
		return fmt.Errorf("create a segment of the queue: %w", err)
	}
	q.file, q.dirty, q.marked = f, false, false
	q.segments = append(q.segments, &queueSegment{number: number, salt: f.Salt, size: f.Size})
	return nil
}

func (q *queue) last() *queueSegment { return q.segments[len(q.segments)-1] }

// append compresses a request's body and writes it. On an error the queue is as it was.
func (q *queue) append(body []byte, rows int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.last(); s.rows > 0 && (s.size >= segmentBytes || time.Since(s.born) >= segmentTime) {
		if err := q.cut(); err != nil {
			return err
		}
	}
	s := q.last()
	q.buffer = q.buffer[:0]
	if !q.marked {
		q.buffer = s.salt.AppendMark(q.buffer, s.size)
	}
	start := len(q.buffer)
	q.buffer = binary.LittleEndian.AppendUint32(append(q.buffer, make([]byte, segment.FrameSize)...), uint32(rows))
	q.buffer = zstd.CompressLevel(q.buffer, body, queueLevel)
	queueFormat.Fill(q.buffer[start:])
	q.dirty = true
	if _, err := q.file.WriteAt(q.buffer, s.size); err != nil {
		return fmt.Errorf("write the queue: %w", err) // the written bytes lie behind size: they are written over, or cut off
	}
	if s.rows == 0 {
		s.born = time.Now()
	}
	q.marked = true
	s.size += int64(len(q.buffer))
	s.rows += uint64(rows)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// cut begins the next segment once all of the last is on disk. The caller holds mu.
func (q *queue) cut() error {
	if err := q.flush(); err != nil {
		return err
	}
	full := q.file
	if err := q.begin(q.last().number + 1); err != nil {
		return err
	}
	return full.Close()
}

// sync returns when everything appended before is on disk.
func (q *queue) sync() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flush()
}

func (q *queue) flush() error {
	if !q.dirty {
		return nil
	}
	// The remains of a failed write behind the end must not look like damage to the next start.
	if err := q.file.Truncate(q.last().size); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	if err := q.file.Sync(); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	q.dirty, q.marked = false, false
	return nil
}

// close proves to the next start that all that was synced was: an empty group follows it.
func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var err error
	if s := q.last(); s.rows > 0 && !q.dirty {
		if _, err = q.file.WriteAt(s.salt.AppendMark(nil, s.size), s.size); err == nil {
			err = q.file.Sync()
		}
	}
	return errors.Join(err, q.file.Close())
}

// start is where the oldest request is.
func (q *queue) start() place {
	q.mu.Lock()
	defer q.mu.Unlock()
	return place{q.segments[0].number, segment.HeaderSize}
}

// read returns the request at a place and the place behind it. Where there is none yet, ok is false, and the place is
// the one to ask again.
func (q *queue) read(at place) (body []byte, rows uint32, next place, ok bool, err error) {
	for {
		var salt segment.Salt
		var size int64
		if at, salt, size = q.find(at); at.offset >= size {
			return nil, 0, at, false, nil
		}
		request, end, err := q.readAt(salt, at, size)
		if err != nil {
			return nil, 0, at, false, fmt.Errorf("queue %s, offset %d: %w", q.path(at.segment), at.offset, err)
		}
		at.offset = end
		if request != nil {
			rows, body = parseRequest(request)
			return body, rows, at, true, nil
		}
	}
}

// find returns a place, or the next segment's start where it is the end of one, with the salt and the size of its segment.
func (q *queue) find(at place) (place, segment.Salt, int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.segments, func(s *queueSegment) bool { return s.number == at.segment })
	if i < 0 {
		return at, segment.Salt{}, 0
	}
	for i < len(q.segments)-1 && at.offset >= q.segments[i].size { // go on with the next one
		i++
		at = place{q.segments[i].number, segment.HeaderSize}
	}
	return at, q.segments[i].salt, q.segments[i].size
}

func (q *queue) readAt(salt segment.Salt, at place, size int64) (request []byte, end int64, err error) {
	f, err := os.Open(q.path(at.segment))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	return queueFormat.ReadOne(f, salt, at.offset, size)
}

// remove deletes a segment that is not written to any more.
func (q *queue) remove(number uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.segments, func(s *queueSegment) bool { return s.number == number })
	if i < 0 || i == len(q.segments)-1 {
		return nil
	}
	if err := os.Remove(q.path(number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("shorten the queue: %w", err)
	}
	q.segments = slices.Delete(q.segments, i, i+1)
	return nil
}

// cutOld begins a new segment where the last one is old, so that its requests can be removed once nothing follows.
func (q *queue) cutOld() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.last(); s.rows == 0 || time.Since(s.born) < segmentTime {
		return nil
	}
	return q.cut()
}

// held returns the bytes of the queue and the rows that are at or behind a place.
func (q *queue) held(from place) (bytes int64, waiting uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.segments {
		bytes += s.size
		if s.number > from.segment || s.number == from.segment && from.offset < s.size {
			waiting += s.rows // of a segment that is partly sent, all
		}
	}
	return bytes, waiting
}
