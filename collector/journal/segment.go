package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A segment file begins with the magic. Each record follows as its length and
// its CRC-32C, both little-endian 32 bits, and its bytes.
const (
	magic     = "bramble1"
	suffix    = ".journal"
	header    = 8
	maxRecord = 256 << 20 // a checkpoint of 100,000 boards is far below; a damaged length is not
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frame(record []byte) []byte {
	b := make([]byte, header, header+len(record))
	binary.LittleEndian.PutUint32(b, uint32(len(record)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(record, castagnoli))
	return append(b, record...)
}

// segment is the file that is written to.
type segment struct {
	*os.File
	number uint64
	size   int64 // bytes that are committed
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, suffix))
}

// segments returns the numbers of the segments in dir, ascending.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var numbers []uint64
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.ParseUint(base, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// createSegment makes a segment. The directory entry is durable on return.
func createSegment(dir string, number uint64) (*segment, error) {
	f, err := os.OpenFile(segmentPath(dir, number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create journal segment: %w", err)
	}
	s := &segment{File: f, number: number}
	if _, err := f.WriteString(magic); err != nil {
		return nil, errors.Join(fmt.Errorf("write journal segment: %w", err), s.discard())
	}
	s.size = int64(len(magic))
	if err := errors.Join(f.Sync(), syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("sync journal segment: %w", err), s.discard())
	}
	return s, nil
}

// finish closes the segment for ever, without what a failed write may have
// left behind its end.
func (s *segment) finish() error {
	return errors.Join(s.Truncate(s.size), s.Close())
}

func (s *segment) discard() error {
	return errors.Join(s.Close(), os.Remove(s.Name()))
}

// append writes and fsyncs the batch as one. On an error the file ends where it
// ended before, or the next try overwrites what is behind that point.
func (s *segment) append(batch []entry) error {
	var buf bytes.Buffer
	for _, e := range batch {
		buf.Write(e.record)
	}
	if buf.Len() == 0 {
		return nil
	}
	if _, err := s.WriteAt(buf.Bytes(), s.size); err != nil {
		return errors.Join(fmt.Errorf("write journal: %w", err), s.Truncate(s.size))
	}
	if err := s.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync journal: %w", err), s.Truncate(s.size))
	}
	s.size += int64(buf.Len())
	return nil
}

// replayAll reads every segment in order and opens the last one for appending,
// a first one where there is none.
func replayAll(dir string, replay func([]byte) error) (*segment, error) {
	numbers, err := segments(dir)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return createSegment(dir, 1)
	}
	var last *segment
	for i, n := range numbers {
		last, err = replaySegment(dir, n, i == len(numbers)-1, replay)
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// replaySegment replays one file. The last one stays open, its torn end cut off.
func replaySegment(dir string, number uint64, isLast bool, replay func([]byte) error) (*segment, error) {
	path := segmentPath(dir, number)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	size, err := parse(data, replay)
	if errors.Is(err, errTorn) && isLast {
		return reopen(dir, number, size)
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s, offset %d: %w; restore a backup, or move this file away to go on without its readings", path, size, err)
	}
	if !isLast {
		return nil, nil
	}
	return reopen(dir, number, size)
}

var errTorn = errors.New("a record is cut off or damaged")

// parse calls replay for each whole record and returns where they end.
func parse(data []byte, replay func([]byte) error) (int64, error) {
	if !bytes.HasPrefix(data, []byte(magic)) {
		if len(data) <= len(magic) && strings.HasPrefix(magic, string(data)) {
			return 0, errTorn // a crash right after the file was made
		}
		return 0, errors.New("not a journal segment")
	}
	at := len(magic)
	for at < len(data) {
		record, err := next(data[at:])
		if err != nil {
			return int64(at), err
		}
		if err := replay(record); err != nil {
			return int64(at), fmt.Errorf("replay: %w", err)
		}
		at += header + len(record)
	}
	return int64(at), nil
}

func next(b []byte) ([]byte, error) {
	if len(b) < header {
		return nil, errTorn
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxRecord || int64(n) > int64(len(b)-header) {
		return nil, errTorn
	}
	record := b[header : header+int(n)]
	if crc32.Checksum(record, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, errTorn
	}
	return record, nil
}

// reopen opens a segment for appending behind size.
func reopen(dir string, number uint64, size int64) (*segment, error) {
	if size == 0 {
		return createSegment(dir, number)
	}
	f, err := os.OpenFile(segmentPath(dir, number), os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("cut the torn end of the journal: %w", err), f.Close())
	}
	return &segment{File: f, number: number, size: size}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
