package segment

import (
	"bufio"
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

	"bramble/storage/durable"
)

// FrameSize is the length of a record's frame: the record's length, and a CRC-32C of length and record,
// both little-endian 32 bits. The record's bytes follow.
const FrameSize = 8

var (
	// ErrTorn says that a record is cut off or damaged.
	ErrTorn = errors.New("a record is cut off or damaged")
	// ErrFollowed says that it can be no torn end.
	ErrFollowed = errors.New("a record is damaged, and records that were committed later follow it")
	// ErrForeign says that a file is of another format.
	ErrForeign = errors.New("not a segment of this log")
)

// Format describes the files of a log: a directory of numbered segments. It is a value and safe for
// concurrent use.
type Format struct {
	Magic     string // MagicSize bytes that begin a file
	Suffix    string // that ends its name
	Extra     int    // bytes at a record's start that its length does not count
	MaxRecord int64  // bytes; a damaged length is larger
}

// Path returns the path of a segment.
func (f Format) Path(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, f.Suffix))
}

// Numbers returns the numbers of the segments in dir, ascending.
func (f Format) Numbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), f.Suffix)
		if n, err := strconv.ParseUint(base, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// AppendRecord appends a record in its frame.
func (f Format) AppendRecord(dst, record []byte) []byte {
	start := len(dst)
	dst = append(append(dst, make([]byte, FrameSize)...), record...)
	f.Fill(dst[start:])
	return dst
}

// Fill writes the frame into the first FrameSize bytes of framed, behind which its record is.
func (f Format) Fill(framed []byte) {
	binary.LittleEndian.PutUint32(framed, uint32(len(framed)-FrameSize-f.Extra))
	binary.LittleEndian.PutUint32(framed[4:], checksum(framed[:4], framed[FrameSize:]))
}

func checksum(length, record []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, record)
}

// File is a segment that is written to. It is for one goroutine at a time.
type File struct {
	*os.File
	Number uint64
	Salt   Salt
	Size   int64 // bytes that count; a failed write may have left others behind them
}

// Create makes a segment. Its header and its directory entry are on the disk on return. prepare, which
// may be nil, is called before that.
func (f Format) Create(dir string, number uint64, prepare func(*File) error) (*File, error) {
	file, err := os.OpenFile(f.Path(dir, number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	head, salt := NewHeader(f.Magic)
	s := &File{File: file, Number: number, Salt: salt, Size: HeaderSize}
	if _, err = file.Write(head); err == nil && prepare != nil {
		err = prepare(s)
	}
	if err == nil {
		err = errors.Join(file.Sync(), durable.SyncDir(dir))
	}
	if err != nil {
		return nil, errors.Join(err, s.Discard())
	}
	return s, nil
}

// Reopen opens a segment to write behind size, where ReadAll found the end of its whole records, and cuts
// off the rest, durably. It returns how many bytes that were.
func (f Format) Reopen(dir string, number uint64, size int64) (_ *File, cut int64, err error) {
	file, err := os.OpenFile(f.Path(dir, number), os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil {
		err = errors.Join(file.Truncate(size), file.Sync())
	}
	s := &File{File: file, Number: number, Size: size}
	if err == nil {
		s.Salt, err = f.readHeader(file, size)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return s, info.Size() - size, nil
}

// Commit writes framed records as one group, with its mark, and syncs them. Without records the mark alone
// proves to the next start that all before it was on the disk. After an error the next try overwrites the
// bytes behind the end.
func (s *File) Commit(records []byte) error {
	group := append(s.Salt.AppendMark(make([]byte, 0, MarkSize+len(records)), s.Size), records...)
	if _, err := s.WriteAt(group, s.Size); err != nil {
		return err
	}
	if err := s.Sync(); err != nil {
		return err
	}
	s.Size += int64(len(group))
	return nil
}

// Finish closes the segment for ever, and cuts off the remains of a failed write behind its end.
func (s *File) Finish() error { return errors.Join(s.Truncate(s.Size), s.Close()) }

// Discard closes and removes the segment.
func (s *File) Discard() error { return errors.Join(s.Close(), os.Remove(s.Name())) }

// ReadAll calls each for every record of a file and returns where its whole records end. Behind that, the
// last segment of a log may have the torn end of a group that was never committed, which is reported and
// no error; no other segment may, and no group may follow. An error of each is returned as it is. Records
// are valid during the call.
func (f Format) ReadAll(path string, last bool, each func(record []byte) error) (size int64, torn bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, false, err
	}
	size, err = f.Read(file, 0, info.Size(), func(record []byte, _ int64) error { return each(record) })
	if !last || !errors.Is(err, ErrTorn) {
		return size, false, err
	}
	salt, bad := f.readHeader(file, info.Size())
	if size == 0 || bad != nil { // the header is torn off: nothing was committed
		return size, true, nil
	}
	follows, err := salt.MarkWithin(file, size+1, info.Size())
	if follows {
		err = ErrFollowed
	}
	return size, err == nil, err
}

// Read calls each for the whole records between two offsets of a file, of which from is 0 or the end of a
// record, with the record's end. It returns where they end. It holds one record at a time: a segment can be
// large. An error of each is returned as it is.
func (f Format) Read(file io.ReaderAt, from, size int64, each func(record []byte, end int64) error) (int64, error) {
	salt, err := f.readHeader(file, size)
	if err != nil {
		return 0, err
	}
	at := max(from, HeaderSize)
	r := reader{Reader: bufio.NewReaderSize(io.NewSectionReader(file, at, size-at), 1<<20), format: f}
	for at < size {
		mark, err := r.Peek(MarkSize)
		if err != nil {
			return at, torn(err)
		}
		if salt.IsMark(mark, at) {
			_, _ = r.Discard(MarkSize) // the peeked bytes
			at += MarkSize
			continue
		}
		record, err := r.next(size - at)
		if err != nil {
			return at, err
		}
		end := at + FrameSize + int64(len(record))
		if err := each(record, end); err != nil {
			return at, err
		}
		at = end
	}
	return at, nil
}

// ReadOne returns the record at an offset, or behind a mark there, and its end. The record is nil where
// only a mark is.
func (f Format) ReadOne(file io.ReaderAt, salt Salt, at, size int64) (record []byte, end int64, err error) {
	head := make([]byte, min(FrameSize, size-at))
	if _, err := file.ReadAt(head, at); err != nil {
		return nil, at, torn(err)
	}
	if salt.IsMark(head, at) {
		if at += MarkSize; at == size {
			return nil, at, nil
		}
		return f.ReadOne(file, salt, at, size)
	}
	r := reader{Reader: bufio.NewReaderSize(io.NewSectionReader(file, at, size-at), 16), format: f}
	record, err = r.next(size - at)
	return record, at + FrameSize + int64(len(record)), err
}

// readHeader returns the salt of a file's marks.
func (f Format) readHeader(file io.ReaderAt, size int64) (Salt, error) {
	b := make([]byte, min(HeaderSize, size))
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return Salt{}, err
	}
	magic := string(b[:min(MagicSize, len(b))])
	salt, err := ParseHeader(b)
	switch {
	case err == nil && magic == f.Magic:
		return salt, nil
	case size <= HeaderSize && (strings.HasPrefix(f.Magic, magic) || strings.Trim(string(b), "\x00") == ""):
		return Salt{}, ErrTorn // a crash right after the file was made: records follow a header that is on the disk
	case magic == f.Magic:
		return Salt{}, err
	}
	return Salt{}, ErrForeign
}

// reader reads one record after the other into the same memory.
type reader struct {
	*bufio.Reader
	format Format
	buf    []byte
}

// next reads a record, of which at most so many bytes are left, its frame included.
func (r *reader) next(left int64) ([]byte, error) {
	var frame [FrameSize]byte
	if _, err := io.ReadFull(r, frame[:]); err != nil {
		return nil, torn(err)
	}
	n := int64(binary.LittleEndian.Uint32(frame[:])) + int64(r.format.Extra)
	if n > r.format.MaxRecord || n > left-FrameSize {
		return nil, ErrTorn
	}
	r.buf = slices.Grow(r.buf[:0], int(n))[:n]
	if _, err := io.ReadFull(r, r.buf); err != nil {
		return nil, torn(err)
	}
	if checksum(frame[:4], r.buf) != binary.LittleEndian.Uint32(frame[4:]) {
		return nil, ErrTorn
	}
	return r.buf, nil
}

// torn distinguishes a file that ends from a disk that cannot be read.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTorn
	}
	return err
}
