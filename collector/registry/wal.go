package registry

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Sizes in bytes, fields and checksums of a write-ahead log: sqlite.org/walformat.html.
const (
	walHeader   = 32
	walFrame    = 24         // before the page of a frame
	walMagic    = 0x377f0682 // the lowest bit says that checksums read big-endian words
	walVersion  = 3007000
	minPageSize = 512
	maxPageSize = 65536
)

// CheckLog returns an error that wraps ErrDamaged where SQLite would silently forget committed transactions of the
// write-ahead log of the database at path. SQLite ends a log at the first frame whose checksum or salts are wrong, which
// is right for the last transaction alone: it may have been cut off before its fsync. A frame of a later transaction was
// written after that fsync, so it proves that the bytes before it were whole once. No other connection may write the
// database meanwhile. Nothing is changed.
func CheckLog(path string) error {
	f, err := os.Open(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the log of the database: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the log of the database: %w", err)
	}
	if info.Size() <= walHeader+walFrame {
		return nil // its header is synced before the first frame is written: nothing was committed
	}
	if db, err := os.Stat(path); err != nil || db.Size() == 0 {
		return fmt.Errorf("%w: file %s is missing or empty, and its log %s is not", ErrDamaged, path, f.Name())
	}
	r := bufio.NewReaderSize(f, 1<<16)
	w, err := newWALReader(r)
	for at := int64(walHeader); err == nil; at += int64(len(w.frame)) {
		if _, end := io.ReadFull(r, w.frame); errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF) {
			return nil
		} else if end != nil {
			return fmt.Errorf("read %s: %w", f.Name(), end)
		}
		if why := w.next(); why != "" {
			err = fmt.Errorf("offset %d: %s", at, why)
		}
	}
	return fmt.Errorf("%w: file %s: %w", ErrDamaged, f.Name(), err)
}

// walReader follows the chain of a log's checksums: that of each frame goes on from that of the frame before.
type walReader struct {
	order binary.ByteOrder // of the words that checksums read
	salts [8]byte          // of this generation of the log; frames of older ones lie behind its end
	frame []byte           // the frame that is looked at

	stored    walSum  // in the frame before, which may be damaged
	committed bool    // the frame before was the last one of a transaction
	broken    bool    // a frame before was not whole
	bridge    *walSum // of the frame before, as its bytes have it, if it was the first that was not whole
}

type walSum [2]uint32

func newWALReader(r io.Reader) (*walReader, error) {
	var h [walHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	w := &walReader{order: binary.LittleEndian, salts: [8]byte(h[16:24]), stored: sumAt(h[24:])}
	magic, size := binary.BigEndian.Uint32(h[:]), int(binary.BigEndian.Uint32(h[8:]))
	if magic&1 != 0 {
		w.order = binary.BigEndian
	}
	if magic&^1 != walMagic || binary.BigEndian.Uint32(h[4:]) != walVersion || size < minPageSize || size > maxPageSize || size&(size-1) != 0 ||
		w.sum(walSum{}, h[:24]) != w.stored {
		return nil, errors.New("offset 0: its header is not whole, and frames follow it")
	}
	w.frame = make([]byte, walFrame+size)
	return w, nil
}

func sumAt(b []byte) walSum {
	return walSum{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// sum goes on with a checksum over b, a multiple of eight bytes.
func (w *walReader) sum(s walSum, b []byte) walSum {
	for ; len(b) > 0; b = b[8:] {
		s[0] += w.order.Uint32(b) + s[1]
		s[1] += w.order.Uint32(b[4:]) + s[0]
	}
	return s
}

// sumFrame is the checksum of the frame behind one with the checksum s.
func (w *walReader) sumFrame(s walSum) walSum {
	return w.sum(w.sum(s, w.frame[:8]), w.frame[walFrame:])
}

// next looks at the frame and returns why it, or one before it, is damaged; "" while nothing proves that. Behind the first
// frame that is not whole the chain is followed from the checksums that the frames themselves store.
func (w *walReader) next() string {
	stored, ours := sumAt(w.frame[16:]), [8]byte(w.frame[8:16]) == w.salts
	sum := w.sumFrame(w.stored)
	switch {
	case !w.broken && sum == stored && !ours:
		return "the salts of a frame are damaged"
	case !w.broken && sum != stored && ours && w.onlyMark(sum, stored):
		return "the commit mark of a frame is damaged"
	case w.broken && sum == stored && ours && w.committed:
		return "a later transaction follows a damaged frame"
	case w.bridge != nil && ours && w.sumFrame(*w.bridge) == stored:
		return "the checksum of the frame before is damaged"
	}
	w.bridge = nil
	if !w.broken && (sum != stored || !ours) {
		w.broken, w.bridge = true, &sum
	}
	w.stored, w.committed = stored, ours && binary.BigEndian.Uint32(w.frame[4:]) != 0
	return ""
}

// onlyMark reports whether another commit mark would make the frame's checksum, sum, the one that it stores. The checksum
// is linear, modulo 2^32, in each word that it covers.
func (w *walReader) onlyMark(sum, stored walSum) bool {
	one := w.sumOfMark()
	i := 0
	if one[0]&1 == 0 {
		i = 1 // one of both is odd: each step of the checksum can be undone
	}
	inverse := one[i] // right for the lowest three bits; each step doubles them
	for range 4 {
		inverse *= 2 - one[i]*inverse
	}
	by := (stored[i] - sum[i]) * inverse
	return sum[0]+by*one[0] == stored[0] && sum[1]+by*one[1] == stored[1]
}

// sumOfMark is by how much a commit mark that is greater by one changes the checksum of a frame.
func (w *walReader) sumOfMark() walSum {
	s := walSum{0, 1}
	for range (len(w.frame) - walFrame) / 8 {
		s[0] += s[1]
		s[1] += s[0]
	}
	return s
}
