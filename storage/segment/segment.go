// Package segment is the log under the journal and under the queue for a remote store: a directory of
// numbered files to which framed records are appended in groups, one fsync each.
//
// A file begins with a header; a mark is before each group. A group is begun only after the one before has
// been synced. So a mark proves that all before it was on the disk once, and bytes before it that are not
// whole are damaged; behind the last mark they may as well be the torn end of a group that was never
// committed. A mark depends on a random salt of its file and on its place there, so that no content of a
// record can pass for one.
//
// It owns the bytes of a file. It refuses files of another [Format] and, but for a torn end, damaged ones.
// It knows neither the meaning of a record nor when a file may go.
package segment

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

const (
	// MagicSize is the length of the text that begins a file and names its kind and version.
	MagicSize = 8
	// HeaderSize is the length of a header: the magic, the salt, and the CRC-32C of both, little-endian.
	HeaderSize = MagicSize + 8 + 4
	// MarkSize is the length of a mark: the tag, and the CRC-32C of salt and place, little-endian.
	MarkSize = 8
)

// tag begins a mark. Read as a little-endian length it is longer than any record.
var tag = []byte{0xff, 0xff, 0xff, 0xff}

// ErrHeader says that a header is damaged.
var ErrHeader = errors.New("the header of the file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Salt is common to the marks of a file.
type Salt [8]byte

// NewHeader returns the header of a new file. It has to be on the disk before the first group is written.
func NewHeader(magic string) ([]byte, Salt) {
	var s Salt
	_, _ = rand.Read(s[:]) // never fails
	h := append([]byte(magic), s[:]...)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli)), s
}

// ParseHeader returns the salt of a header, or ErrHeader.
func ParseHeader(h []byte) (Salt, error) {
	if len(h) != HeaderSize || crc32.Checksum(h[:HeaderSize-4], castagnoli) != binary.LittleEndian.Uint32(h[HeaderSize-4:]) {
		return Salt{}, ErrHeader
	}
	return Salt(h[MagicSize:]), nil
}

// AppendMark appends the mark of a group whose mark is at a place of the file.
func (s Salt) AppendMark(dst []byte, at int64) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, tag...), crc32.Checksum(binary.LittleEndian.AppendUint64(s[:], uint64(at)), castagnoli))
}

// IsMark reports whether b begins with the mark of its place.
func (s Salt) IsMark(b []byte, at int64) bool {
	return len(b) >= MarkSize && bytes.HasPrefix(b, tag) && bytes.Equal(b[:MarkSize], s.AppendMark(nil, at))
}

// MarkWithin reports whether a mark lies between two places of a file.
func (s Salt) MarkWithin(file io.ReaderAt, from, to int64) (bool, error) {
	b := make([]byte, 1<<16)
	for from+MarkSize <= to {
		n, err := file.ReadAt(b[:min(int64(len(b)), to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		part := b[:n]
		for i := 0; ; i++ {
			next := bytes.Index(part[i:], tag)
			if next < 0 {
				break
			}
			i += next
			if s.IsMark(part[i:], from+int64(i)) {
				return true, nil
			}
		}
		if n < len(b) {
			break
		}
		from += int64(n - MarkSize + 1) // a mark may begin in one part and end in the next
	}
	return false, nil
}
