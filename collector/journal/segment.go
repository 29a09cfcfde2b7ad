package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	seglog "bramble/storage/segment"
)

// format is that of the journal's segments. A record is one of [Journal.Append]; one group is
// committed by one fsync.
var format = seglog.Format{
	Magic:     "journal2",
	Suffix:    ".journal",
	MaxRecord: 256 << 20, // a checkpoint of 100,000 boards is far below
}

// ErrDamaged is wrapped by Open where a segment is damaged.
var ErrDamaged = errors.New("damaged journal")

// segment is the file that is written to.
type segment struct {
	*seglog.File
	// reserved is the end of the space that is the file's already: writes up to there need no free space.
	reserved int64
}

// cut is the torn end of a segment that a start has cut off.
type cut struct {
	path          string
	offset, bytes int64
}

// createSegment makes a segment with its reserve, durably.
func createSegment(dir string, number uint64) (*segment, error) {
	s := &segment{}
	_, err := format.Create(dir, number, func(f *seglog.File) error {
		s.File = f
		return s.reserve()
	})
	if err != nil {
		return nil, fmt.Errorf("create journal segment: %w", err)
	}
	return s, nil
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
	if err := s.Commit(records); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// replayAll reads every segment in order and opens the last one for appending,
// a first one where there is none.
func replayAll(dir string, replay func([]byte) error) (*segment, cut, error) {
	numbers, err := format.Numbers(dir)
	if err != nil {
		return nil, cut{}, fmt.Errorf("list journal: %w", err)
	}
	if len(numbers) == 0 {
		s, err := createSegment(dir, 1)
		return s, cut{}, err
	}
	var size int64
	for i, n := range numbers {
		if size, err = readWhole(format.Path(dir, n), i == len(numbers)-1, replay); err != nil {
			return nil, cut{}, err
		}
	}
	return reopen(dir, numbers[len(numbers)-1], size)
}

// Check reads the journal in dir, if there is one, and returns an error that wraps ErrDamaged where [Open] would. It
// changes nothing.
func Check(dir string) error {
	numbers, err := format.Numbers(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i, n := range numbers {
		if err == nil {
			_, err = readWhole(format.Path(dir, n), i == len(numbers)-1, func([]byte) error { return nil })
		}
	}
	return err
}

// readWhole replays one segment and returns where its whole records end.
func readWhole(path string, isLast bool, replay func([]byte) error) (int64, error) {
	size, _, err := format.ReadAll(path, isLast, func(record []byte) error {
		if err := replay(record); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		return nil
	})
	if err != nil {
		return size, fmt.Errorf("%w: file %s, offset %d: %w; move this file away to go on without its readings", ErrDamaged, path, size, err)
	}
	return size, nil
}

// reopen opens the last segment for appending behind size, where its whole records end, and cuts off the rest.
func reopen(dir string, number uint64, size int64) (*segment, cut, error) {
	if size == 0 {
		s, err := createSegment(dir, number)
		return s, cut{}, err
	}
	f, bytes, err := format.Reopen(dir, number, size)
	if err != nil {
		return nil, cut{}, fmt.Errorf("cut the torn end of the journal: %w", err)
	}
	return &segment{File: f}, cut{f.Name(), size, bytes}, nil
}
