package remote

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

	"bramble/storage/segment"
)

// A segment of the queue begins with the header of package segment. A mark of that package begins the requests that one
// sync commits. A request is a header (the length of its body, a CRC-32C of length, rows and body, its rows, each 32 bits
// little-endian) and the body: remote write's protobuf, compressed by zstd as VictoriaMetrics takes it.
//
// Segments of the first version begin with its magic alone; they have no marks, and the CRC covers rows and body. They are
// read, and never written to again.
const (
	queueMagic  = "requests"
	queueMagic1 = "brmqueu1"
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

// ErrDamagedQueue is wrapped by [Open] where a file of the queue is damaged.
var ErrDamagedQueue = errors.New("damaged queue for the remote store")

// queue keeps requests on disk until the remote has them safely. One goroutine reads; any may append.
type queue struct {
	dir string
	// wake receives after something was appended.
	wake chan struct{}

	mu       sync.Mutex
	segments []*queueSegment // oldest first; the last one is written to
	file     *os.File        // of the last one
	dirty    bool            // something is not synced
	marked   bool            // what is not synced has its mark
	buffer   []byte
}

// queueSegment is one file. Its fields are guarded by the queue's mutex.
type queueSegment struct {
	number uint64
	kind   queueKind
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

func (q *queue) path(number uint64) string { return queuePath(q.dir, number) }

func queuePath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, queueSuffix))
}

// load looks at a whole file, cuts its torn end off, and removes it if it holds nothing.
func (q *queue) load(number uint64, last bool) (*queueSegment, error) {
	path := q.path(number)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	s, torn, err := readQueue(path, last)
	switch {
	case err != nil:
		return nil, err
	case s.rows == 0:
		return nil, os.Remove(path)
	case torn:
		if err := cutFile(path, s.size); err != nil {
			return nil, fmt.Errorf("cut the torn end of the queue: %w", err)
		}
	}
	s.number, s.born = number, info.ModTime()
	return &s, nil
}

// readQueue reads a whole file. Behind its whole requests the last file may have the torn end of a group that no sync
// covered; no other one may, and no group may follow.
func readQueue(path string, last bool) (s queueSegment, torn bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return s, false, fmt.Errorf("read the queue: %w", err)
	}
	s, err = parseQueue(data)
	if torn = last && errors.Is(err, errTornQueue); torn {
		err = nil
		if s.size > 0 && !s.kind.first {
			if follows, _ := s.kind.salt.MarkWithin(bytes.NewReader(data), s.size+1, int64(len(data))); follows { // memory is always read
				err = errors.New("a request is damaged, and later ones that were synced follow it")
			}
		}
	}
	if err != nil {
		return s, false, fmt.Errorf("%w: file %s, offset %d: %w; no backup has the queue: to go on without the rows of this file: mv %s %s.damaged", ErrDamagedQueue, path, s.size, err, path, path)
	}
	return s, torn, nil
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

// queueKind is how a file of the queue is read.
type queueKind struct {
	first bool // the first version
	salt  segment.Salt
}

// start is where the requests, or the first mark, begin.
func (k queueKind) start() int64 {
	if k.first {
		return int64(len(queueMagic1))
	}
	return segment.HeaderSize
}

func queueKindOf(data []byte) (queueKind, error) {
	head := data[:min(len(data), segment.HeaderSize)]
	magic := string(head[:min(len(head), segment.MagicSize)])
	salt, err := segment.ParseHeader(head)
	switch {
	case magic == queueMagic1:
		return queueKind{first: true}, nil
	case err == nil && magic == queueMagic:
		return queueKind{salt: salt}, nil
	case len(data) <= segment.HeaderSize && (strings.HasPrefix(queueMagic, magic) || strings.HasPrefix(queueMagic1, magic) || strings.Trim(string(head), "\x00") == ""):
		return queueKind{}, errTornQueue // a crash right after the file was made: requests follow a header that is on the disk
	case magic == queueMagic:
		return queueKind{}, err
	}
	return queueKind{}, errors.New("not a segment of the queue")
}

// parseQueue returns a segment with the size of its whole requests, 0 where not even the header is whole, and their rows.
func parseQueue(data []byte) (s queueSegment, err error) {
	if s.kind, err = queueKindOf(data); err != nil {
		return s, err
	}
	s.size = s.kind.start()
	for s.size < int64(len(data)) {
		if s.kind.marked(data[s.size:], s.size) {
			s.size += segment.MarkSize
			continue
		}
		body, n, err := s.kind.request(data[s.size:])
		if err != nil {
			return s, err
		}
		s.rows += uint64(n)
		s.size += int64(queueHeader + len(body))
	}
	return s, nil
}

func (k queueKind) marked(b []byte, at int64) bool { return !k.first && k.salt.IsMark(b, at) }

// request returns the first request of b.
func (k queueKind) request(b []byte) (body []byte, rows uint32, err error) {
	if len(b) < queueHeader {
		return nil, 0, errTornQueue
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxQueued || int64(n) > int64(len(b)-queueHeader) {
		return nil, 0, errTornQueue
	}
	whole := b[:queueHeader+int(n)]
	rows, body = binary.LittleEndian.Uint32(b[8:]), whole[queueHeader:]
	sum := sumRequest(whole)
	if k.first {
		sum = crc32.Update(rows, queueTable, body)
	}
	if sum != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, errTornQueue
	}
	return body, rows, nil
}

// sumRequest is the checksum of all of a request but its checksum.
func sumRequest(request []byte) uint32 {
	return crc32.Update(crc32.Checksum(request[:4], queueTable), queueTable, request[8:])
}

// begin makes a segment the one that is written to. The caller holds mu, or is alone. The header is on the disk on
// return, so that none can be missing where requests are.
func (q *queue) begin(number uint64) error {
	f, err := os.OpenFile(q.path(number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create a segment of the queue: %w", err)
	}
	head, salt := segment.NewHeader(queueMagic)
	_, err = f.Write(head)
	if err == nil {
		err = errors.Join(f.Sync(), syncQueueDir(q.dir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("create a segment of the queue: %w", err), f.Close(), os.Remove(f.Name()))
	}
	q.file, q.dirty, q.marked = f, false, false
	q.segments = append(q.segments, &queueSegment{number: number, kind: queueKind{salt: salt}, size: segment.HeaderSize})
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
		q.buffer = s.kind.salt.AppendMark(q.buffer, s.size)
	}
	start := len(q.buffer)
	q.buffer = zstd.CompressLevel(append(q.buffer, make([]byte, queueHeader)...), body, queueLevel)
	request := q.buffer[start:]
	binary.LittleEndian.PutUint32(request, uint32(len(request)-queueHeader))
	binary.LittleEndian.PutUint32(request[8:], uint32(rows))
	binary.LittleEndian.PutUint32(request[4:], sumRequest(request))
	q.dirty = true
	if _, err := q.file.WriteAt(q.buffer, s.size); err != nil {
		return fmt.Errorf("write the queue: %w", err) // what was written lies behind size: it is written over, or cut off
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
	// What a failed write left behind the end must not look like damage to the next start.
	if err := q.file.Truncate(q.last().size); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	if err := q.file.Sync(); err != nil {
		return fmt.Errorf("sync the queue: %w", err)
	}
	q.dirty, q.marked = false, false
	return nil
}

func syncQueueDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// close proves to the next start that all that was synced was: an empty group follows it.
func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var err error
	if s := q.last(); s.rows > 0 && !q.dirty {
		if _, err = q.file.WriteAt(s.kind.salt.AppendMark(nil, s.size), s.size); err == nil {
			err = q.file.Sync()
		}
	}
	return errors.Join(err, q.file.Close())
}

// start is where the oldest request is.
func (q *queue) start() place {
	q.mu.Lock()
	defer q.mu.Unlock()
	return place{q.segments[0].number, q.segments[0].kind.start()}
}

// read returns the request at a place and the place behind it. Where there is none yet, ok is false, and the place is
// the one to ask again.
func (q *queue) read(at place) (body []byte, rows uint32, next place, ok bool, err error) {
	for {
		var kind queueKind
		var size int64
		if at, kind, size = q.find(at); at.offset >= size {
			return nil, 0, at, false, nil
		}
		body, rows, n, err := q.readAt(kind, at, size)
		if err != nil {
			return nil, 0, at, false, fmt.Errorf("queue %s, offset %d: %w", q.path(at.segment), at.offset, err)
		}
		next := place{at.segment, at.offset + n}
		if body != nil {
			return body, rows, next, true, nil
		}
		at = next // behind a mark
	}
}

// find returns a place, or the next segment's start where it is the end of one, with the kind and the size of its segment.
func (q *queue) find(at place) (place, queueKind, int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.segments, func(s *queueSegment) bool { return s.number == at.segment })
	if i < 0 {
		return at, queueKind{}, 0
	}
	for i < len(q.segments)-1 && at.offset >= q.segments[i].size { // go on with the next one
		i++
		at = place{q.segments[i].number, q.segments[i].kind.start()}
	}
	return at, q.segments[i].kind, q.segments[i].size
}

// readAt returns the request at a place and the bytes that it takes; no body where a mark is there.
func (q *queue) readAt(kind queueKind, at place, size int64) (body []byte, rows uint32, n int64, err error) {
	f, err := os.Open(q.path(at.segment))
	if err != nil {
		return nil, 0, 0, err
	}
	defer f.Close()
	head := make([]byte, min(queueHeader, size-at.offset))
	if _, err := f.ReadAt(head, at.offset); err != nil {
		return nil, 0, 0, err
	}
	if kind.marked(head, at.offset) {
		return nil, 0, segment.MarkSize, nil
	}
	if len(head) < queueHeader {
		return nil, 0, 0, errTornQueue
	}
	n = queueHeader + int64(binary.LittleEndian.Uint32(head))
	if n > size-at.offset {
		return nil, 0, 0, errTornQueue
	}
	whole := make([]byte, n)
	if _, err := f.ReadAt(whole, at.offset); err != nil {
		return nil, 0, 0, err
	}
	body, rows, err = kind.request(whole)
	return body, rows, n, err
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
