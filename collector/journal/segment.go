package journal

import (
	"bufio"
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
	// reserved is where the space ends that is the file's already: what is
	// written up to there needs no free space.
	reserved int64
	torn     int64 // bytes behind the last whole record that were cut off at the start
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
	if err := s.reserve(); err != nil {
		return nil, errors.Join(err, s.discard())
	}
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

// append writes and fsyncs the batch as one. After an error the next try
// overwrites what is behind the committed end. That end is not cut there: the
// cut would give the reserve away.
func (s *segment) append(batch []entry) error {
	var buf bytes.Buffer
	for _, e := range batch {
		buf.Write(e.record)
	}
	if buf.Len() == 0 {
		return nil
	}
	if _, err := s.WriteAt(buf.Bytes(), s.size); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
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
	size, err := parseFile(path, replay)
	if errors.Is(err, errTorn) && isLast {
		return reopen(dir, number, size)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: file %s, offset %d: %w; move this file away to go on without its readings", ErrDamaged, path, size, err)
	}
	if !isLast {
		return nil, nil
	}
	return reopen(dir, number, size)
}

// ErrDamaged is wrapped by Open where a segment is damaged.
var ErrDamaged = errors.New("damaged journal")

var errTorn = errors.New("a record is cut off or damaged")

func parseFile(path string, replay func([]byte) error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return parse(f, 0, info.Size(), func(record []byte, _ int64) error { return replay(record) })
}

// parse calls f for each whole record of a segment between the offsets from,
// which is 0 or the end of a record, and size, with the record's end. It
// returns where the whole records end. It holds one record at a time: a segment
// grows for as long as the store takes nothing.
func parse(segment io.ReaderAt, from, size int64, f func(record []byte, end int64) error) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(segment, from, size-from), 1<<20)
	at := from
	if from == 0 {
		if err := parseMagic(r); err != nil {
			return 0, err
		}
		at = int64(len(magic))
	}
	var record []byte
	for at < size {
		var err error
		if record, err = next(r, record, size-at); err != nil {
			return at, err
		}
		end := at + header + int64(len(record))
		if err := f(record, end); err != nil {
			return at, fmt.Errorf("replay: %w", err)
		}
		at = end
	}
	return at, nil
}

func parseMagic(r io.Reader) error {
	b := make([]byte, len(magic))
	n, err := io.ReadFull(r, b)
	switch {
	case err == nil && string(b) == magic:
		return nil
	case err != nil && strings.HasPrefix(magic, string(b[:n])):
		return errTorn // a crash right after the file was made
	}
	return errors.New("not a journal segment")
}

// next reads a record, of which at most so many bytes are left, into buf.
func next(r io.Reader, buf []byte, left int64) ([]byte, error) {
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, torn(err)
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > maxRecord || n > left-header {
		return nil, errTorn
	}
	record := slices.Grow(buf[:0], int(n))[:n]
	if _, err := io.ReadFull(r, record); err != nil {
		return nil, torn(err)
	}
	if crc32.Checksum(record, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return record, nil
}

// torn tells a file that ends from a disk that cannot be read.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
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
	info, err := f.Stat()
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Sync())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cut the torn end of the journal: %w", err), f.Close())
	}
	return &segment{File: f, number: number, size: size, torn: info.Size() - size}, nil
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
