package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
)

// A segment of the queue is a file that begins with the magic. Each request follows as a header (the length of its
// body, its CRC-32C, its rows, each 32 bits little-endian) and the body: remote write's protobuf, compressed by zstd
// as VictoriaMetrics takes it.
const (
	queueMagic  = "brmqueu1"
	queueSuffix = ".queue"
	queueHeader = 12
	// maxQueued bounds a request on disk. It is far above what is written; a damaged length is not.
	maxQueued = 64 << 20
	// segmentBytes and segmentTime bound a segment: rows are removed by whole segments.
	segmentBytes = 16 << 20
	segmentTime  = 10 * time.Second
	// queueLevel is zstd's fastest.
	queueLevel = 1
)

var queueTable = crc32.MakeTable(crc32.Castagnoli)

// queue keeps requests on disk until the remote has them safely. One goroutine reads; any may append.
type queue struct {
	dir string
	// wake receives after something was appended.
	wake chan struct{}

	mu       sync.Mutex
	segments []*queueSegment // oldest first; the last one is written to
	file     *os.File        // of the last one
	dirty    bool            // something is not synced
	buffer   []byte
}

// queueSegment is one file. Its fields are guarded by the queue's mutex.
type queueSegment struct {
	number uint64
	size   int64 // bytes of whole requests
	rows   uint64
	born   time.Time // of its first request; at a start, when its file last changed
}

// place is where a reader stands.
type place struct {
	segment uint64
	offset  int64
}

// openQueue opens the queue in dir and creates it where there is none. A torn end, which no barrier covered, is left
// out; damage before it is an error that names file and offset.
func openQueue(dir string) (*queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the queue: %w", err)
	}
	q := &queue{dir: dir, wake: make(chan struct{}, 1)}
	numbers, err := queueNumbers(dir)
	if err != nil {
		return nil, err
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

func queueNumbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	var numbers []uint64
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), queueSuffix)
		if n, err := strconv.ParseUint(base, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (q *queue) path(number uint64) string {
	return filepath.Join(q.dir, fmt.Sprintf("%016d%s", number, queueSuffix))
}

// load looks at a whole file, cuts its torn end off if it is the last one, and removes it if it holds nothing.
func (q *queue) load(number uint64, last bool) (*queueSegment, error) {
	path := q.path(number)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	size, rows, err := parseQueue(data)
	torn := last && errors.Is(err, errTornQueue)
	switch {
	case err != nil && !torn:
		return nil, fmt.Errorf("queue %s, offset %d: %w; move this file away to go on without its rows", path, size, err)
	case rows == 0:
		err = os.Remove(path)
		return nil, err
	case torn:
		if err := cutFile(path, size); err != nil {
			return nil, fmt.Errorf("cut the torn end of the queue: %w", err)
		}
	}
	return &queueSegment{number: number, size: size, rows: rows, born: info.ModTime()}, nil
}

// cutFile shortens a file, durably: it will not be the last one any more.
func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

var errTornQueue = errors.New("a request is cut off or damaged")

// parseQueue returns where the whole requests of a segment end, and their rows.
func parseQueue(data []byte) (size int64, rows uint64, err error) {
	if !bytes.HasPrefix(data, []byte(queueMagic)) {
		if len(data) < len(queueMagic) && strings.HasPrefix(queueMagic, string(data)) {
			return 0, 0, errTornQueue // a crash right after the file was made
		}
		return 0, 0, errors.New("not a segment of the queue")
	}
	size = int64(len(queueMagic))
	for size < int64(len(data)) {
		body, n, err := parseRequest(data[size:])
		if err != nil {
			return size, rows, err
		}
		rows += uint64(n)
		size += int64(queueHeader + len(body))
	}
	return size, rows, nil
}

// parseRequest returns the first request of b.
func parseRequest(b []byte) (body []byte, rows uint32, err error) {
	if len(b) < queueHeader {
		return nil, 0, errTornQueue
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxQueued || int64(n) > int64(len(b)-queueHeader) {
		return nil, 0, errTornQueue
	}
	rows = binary.LittleEndian.Uint32(b[8:])
	body = b[queueHeader : queueHeader+int(n)]
	if sumRequest(body, rows) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, errTornQueue
	}
	return body, rows, nil
}

// sumRequest covers the rows too.
func sumRequest(body []byte, rows uint32) uint32 {
	return crc32.Update(rows, queueTable, body)
}

// begin makes a segment the one that is written to. The caller holds mu, or is alone.
func (q *queue) begin(number uint64) error {
	f, err := os.OpenFile(q.path(number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create a segment of the queue: %w", err)
	}
	if _, err := f.WriteString(queueMagic); err != nil {
		return errors.Join(fmt.Errorf("create a segment of the queue: %w", err), f.Close(), os.Remove(f.Name()))
	}
	q.file, q.dirty = f, true
	q.segments = append(q.segments, &queueSegment{number: number, size: int64(len(queueMagic))})
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
	q.buffer = zstd.CompressLevel(append(q.buffer[:0], make([]byte, queueHeader)...), body, queueLevel)
	compressed := q.buffer[queueHeader:]
	binary.LittleEndian.PutUint32(q.buffer, uint32(len(compressed)))
	binary.LittleEndian.PutUint32(q.buffer[4:], sumRequest(compressed, uint32(rows)))
	binary.LittleEndian.PutUint32(q.buffer[8:], uint32(rows))
	q.dirty = true
	if _, err := q.file.WriteAt(q.buffer, s.size); err != nil {
		return fmt.Errorf("write the queue: %w", err) // what was written lies behind size: it is written over, or cut off
	}
	if s.rows == 0 {
		s.born = time.Now()
	}
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
	// What a failed write left behind the end must not look like damage to the next start.
	if err := q.file.Truncate(q.last().size); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	if err := q.file.Sync(); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	if err := syncQueueDir(q.dir); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	q.dirty = false
	return nil
}

func syncQueueDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.file.Close()
}

// start is where the oldest request is.
func (q *queue) start() place {
	q.mu.Lock()
	defer q.mu.Unlock()
	return place{q.segments[0].number, int64(len(queueMagic))}
}

// read returns the request at a place and the place behind it. Where there is none yet, ok is false, and the place is
// the one to ask again.
func (q *queue) read(at place) (body []byte, rows uint32, next place, ok bool, err error) {
	q.mu.Lock()
	i := slices.IndexFunc(q.segments, func(s *queueSegment) bool { return s.number == at.segment })
	for i >= 0 && i < len(q.segments)-1 && at.offset >= q.segments[i].size { // go on with the next one
		i++
		at = place{q.segments[i].number, int64(len(queueMagic))}
	}
	size := int64(0)
	if i >= 0 {
		size = q.segments[i].size
	}
	q.mu.Unlock()
	if at.offset >= size {
		return nil, 0, at, false, nil
	}
	body, rows, err = q.readAt(at, size)
	if err != nil {
		return nil, 0, at, false, fmt.Errorf("queue %s, offset %d: %w", q.path(at.segment), at.offset, err)
	}
	return body, rows, place{at.segment, at.offset + int64(queueHeader+len(body))}, true, nil
}

func (q *queue) readAt(at place, size int64) ([]byte, uint32, error) {
	f, err := os.Open(q.path(at.segment))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	var head [queueHeader]byte
	if _, err := f.ReadAt(head[:], at.offset); err != nil {
		return nil, 0, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > size-at.offset-queueHeader {
		return nil, 0, errTornQueue
	}
	whole := make([]byte, queueHeader+n)
	if _, err := f.ReadAt(whole, at.offset); err != nil {
		return nil, 0, err
	}
	return parseRequest(whole)
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

// cutOld begins a new segment where the last one is old, so that what it holds can be removed once nothing follows.
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
