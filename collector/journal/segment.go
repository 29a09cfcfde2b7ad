package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	marks "bramble/storage/segment"
)

// A segment file begins with the header of package segment. A mark of that package begins each group of records that one
// fsync commits. A record is its length and a CRC-32C of length and bytes, both little-endian 32 bits, and its bytes.
//
// Files of the first version begin with its magic alone; they have no marks, and the CRC is of the bytes. They are read,
// and never written to again.
const (
	magic     = "journal2"
	magic1    = "bramble1"
	suffix    = ".journal"
	header    = 8
	maxRecord = 256 << 20 // a checkpoint of 100,000 boards is far below; a damaged length is not
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frame(record []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, header+len(record)), uint32(len(record)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b, record))
	return append(b, record...)
}

func checksum(length, record []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, record)
}

// segment is the file that is written to.
type segment struct {
	*os.File
	number uint64
	salt   marks.Salt
	size   int64 // bytes that are committed
	// reserved is the end of the space that is the file's already: writes up to there need no free space.
	reserved int64
}

// cut is the torn end of a segment that a start has cut off.
type cut struct {
	path          string
	offset, bytes int64
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
	begin, salt := marks.NewHeader(magic)
	s := &segment{File: f, number: number, salt: salt, size: marks.HeaderSize}
	if _, err := f.Write(begin); err != nil {
		return nil, errors.Join(fmt.Errorf("write journal segment: %w", err), s.discard())
	}
	if err := s.reserve(); err != nil {
		return nil, errors.Join(err, s.discard())
	}
	if err := errors.Join(f.Sync(), syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("sync journal segment: %w", err), s.discard())
	}
	return s, nil
}

// finish closes the segment for ever, and cuts off the remains of a failed write behind its end.
func (s *segment) finish() error {
	return errors.Join(s.Truncate(s.size), s.Close())
}

func (s *segment) discard() error {
	return errors.Join(s.Close(), os.Remove(s.Name()))
}

// append writes and fsyncs the batch as one group. After an error the next try overwrites the bytes behind the committed
// end. That end is not cut there: the cut would give the reserve away.
func (s *segment) append(batch []entry) error {
	var buf bytes.Buffer
	for _, e := range batch {
		buf.Write(e.record)
	}
	if buf.Len() == 0 {
		return nil
	}
	return s.commit(buf.Bytes())
}

// seal proves to the next start that all of the segment was committed.
func (s *segment) seal() error { return s.commit(nil) }

func (s *segment) commit(records []byte) error {
	group := append(s.salt.AppendMark(make([]byte, 0, marks.MarkSize+len(records)), s.size), records...)
	if _, err := s.WriteAt(group, s.size); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := s.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	s.size += int64(len(group))
	return nil
}

// replayAll reads every segment in order and opens the last one for appending,
// a first one where there is none.
func replayAll(dir string, replay func([]byte) error) (*segment, cut, error) {
	numbers, err := segments(dir)
	if err != nil {
		return nil, cut{}, err
	}
	if len(numbers) == 0 {
		s, err := createSegment(dir, 1)
		return s, cut{}, err
	}
	var size int64
	for i, n := range numbers {
		if size, err = readWhole(segmentPath(dir, n), i == len(numbers)-1, replay); err != nil {
			return nil, cut{}, err
		}
	}
	return reopen(dir, numbers[len(numbers)-1], size)
}

// Check reads the journal in dir, if there is one, and returns an error that wraps ErrDamaged where [Open] would. It
// changes nothing.
func Check(dir string) error {
	numbers, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i, n := range numbers {
		if err == nil {
			_, err = readWhole(segmentPath(dir, n), i == len(numbers)-1, func([]byte) error { return nil })
		}
	}
	return err
}

// readWhole replays one segment and returns where its whole records end. Behind that, a last segment may have the torn end
// of a group that was never committed; no other one may, and no group may follow.
func readWhole(path string, isLast bool, replay func([]byte) error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	size, err := parse(f, 0, info.Size(), func(record []byte, _ int64) error { return replay(record) })
	if errors.Is(err, errTorn) && isLast {
		var follows bool
		if follows, err = groupFollows(f, size, info.Size()); follows {
			err = errors.New("a record is damaged, and records that were committed later follow it")
		}
	}
	if err != nil {
		return size, fmt.Errorf("%w: file %s, offset %d: %w; move this file away to go on without its readings", ErrDamaged, path, size, err)
	}
	return size, nil
}

// groupFollows reports whether a group of records begins behind an offset of a segment. Segments of the first version have
// no marks.
func groupFollows(f *os.File, from, size int64) (bool, error) {
	salt, first, err := readHeader(f, size)
	if err != nil || first || from == 0 {
		return false, nil // the header is torn off: nothing was committed
	}
	return salt.MarkWithin(f, from+1, size)
}

// ErrDamaged is wrapped by Open where a segment is damaged.
var ErrDamaged = errors.New("damaged journal")

var errTorn = errors.New("a record is cut off or damaged")

// parse calls f for each whole record of a segment between the offsets from,
// which is 0 or the end of a record, and size, with the record's end. It
// returns where the whole records end. It holds one record at a time: a segment
// grows for as long as the store takes nothing.
func parse(file io.ReaderAt, from, size int64, f func(record []byte, end int64) error) (int64, error) {
	salt, first, err := readHeader(file, size)
	if err != nil {
		return 0, err
	}
	at := from
	switch {
	case from == 0 && first:
		at = int64(len(magic1))
	case from == 0:
		at = marks.HeaderSize
	}
	r := reader{Reader: bufio.NewReaderSize(io.NewSectionReader(file, at, size-at), 1<<20), first: first}
	for at < size {
		mark, err := r.Peek(marks.MarkSize)
		if err != nil {
			return at, torn(err)
		}
		if !first && salt.IsMark(mark, at) {
			_, _ = r.Discard(marks.MarkSize) // the peeked bytes
			at += marks.MarkSize
			continue
		}
		record, err := r.next(size - at)
		if err != nil {
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

// readHeader returns the salt of a segment's marks. first says that it is one of the first version, which has none.
func readHeader(file io.ReaderAt, size int64) (salt marks.Salt, first bool, err error) {
	b := make([]byte, min(marks.HeaderSize, size))
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return salt, false, err
	}
	begin := string(b[:min(len(magic), len(b))])
	salt, err = marks.ParseHeader(b)
	switch {
	case begin == magic1:
		return salt, true, nil
	case err == nil && begin == magic:
		return salt, false, nil
	case size <= marks.HeaderSize && (strings.HasPrefix(magic, begin) || strings.HasPrefix(magic1, begin) || strings.Trim(string(b), "\x00") == ""):
		return salt, false, errTorn // a crash right after the file was made: records follow a header that is on the disk
	case begin == magic:
		return salt, false, err
	}
	return salt, false, errors.New("not a journal segment")
}

// reader reads one record after the other into the same memory.
type reader struct {
	*bufio.Reader
	first bool // the first version's
	buf   []byte
}

// next reads a record, of which at most so many bytes are left.
func (r *reader) next(left int64) ([]byte, error) {
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, torn(err)
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > maxRecord || n > left-header {
		return nil, errTorn
	}
	r.buf = slices.Grow(r.buf[:0], int(n))[:n]
	if _, err := io.ReadFull(r, r.buf); err != nil {
		return nil, torn(err)
	}
	sum := checksum(head[:4], r.buf)
	if r.first {
		sum = crc32.Checksum(r.buf, castagnoli)
	}
	if sum != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return r.buf, nil
}

// torn distinguishes a file that ends from a disk that cannot be read.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// reopen opens the last segment for appending behind size, where its whole records end, and cuts off the rest. Another one
// follows a segment of the first version.
func reopen(dir string, number uint64, size int64) (*segment, cut, error) {
	if size == 0 {
		s, err := createSegment(dir, number)
		return s, cut{}, err
	}
	f, err := os.OpenFile(segmentPath(dir, number), os.O_RDWR, 0o600)
	if err != nil {
		return nil, cut{}, fmt.Errorf("open journal: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Sync())
	}
	if err != nil {
		return nil, cut{}, errors.Join(fmt.Errorf("cut the torn end of the journal: %w", err), f.Close())
	}
	off := cut{f.Name(), size, info.Size() - size}
	salt, first, err := readHeader(f, size)
	switch {
	case err != nil:
		return nil, off, errors.Join(fmt.Errorf("open journal: %w", err), f.Close())
	case !first:
		return &segment{File: f, number: number, salt: salt, size: size}, off, nil
	}
	if err := f.Close(); err != nil {
		return nil, off, fmt.Errorf("open journal: %w", err)
	}
	s, err := createSegment(dir, number+1)
	return s, off, err
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
