package journal

import (
	"fmt"
	"os"
)

// Position is a place between two records: before the byte at Offset of a
// segment. The zero value lies before everything.
type Position struct {
	Segment uint64
	Offset  int64
}

// Before reports whether p lies before q.
func (p Position) Before(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// End returns the position behind the last committed record.
func (j *Journal) End() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end
}

// Read calls f for each record that is committed by now and lies behind from,
// in order, with the position behind it, and returns the position up to which
// it came. An error of f ends it and is returned as it is; damage is an error
// that names file and offset. f must not keep the record's bytes. Segments that
// are read must not be removed meanwhile.
func (j *Journal) Read(from Position, f func(record []byte, end Position) error) (Position, error) {
	end := j.End()
	numbers, err := format.Numbers(j.dir)
	if err != nil {
		return from, fmt.Errorf("list journal: %w", err)
	}
	for _, n := range numbers {
		if n < from.Segment || n > end.Segment {
			continue
		}
		at := Position{Segment: n}
		if n == from.Segment {
			at.Offset = from.Offset
		}
		if from, err = j.readSegment(at, end, f); err != nil {
			return from, err
		}
	}
	return from, nil
}

// readSegment reads one segment, the last one up to end.
func (j *Journal) readSegment(from, end Position, f func([]byte, Position) error) (Position, error) {
	path := format.Path(j.dir, from.Segment)
	file, err := os.Open(path)
	if err != nil {
		return from, fmt.Errorf("read journal: %w", err)
	}
	defer file.Close()
	size := end.Offset
	if from.Segment < end.Segment {
		info, err := file.Stat()
		if err != nil {
			return from, fmt.Errorf("read journal: %w", err)
		}
		size = info.Size()
	}
	var own error // of f
	from.Offset, err = format.Read(file, from.Offset, size, func(record []byte, end int64) error {
		own = f(record, Position{from.Segment, end})
		return own
	})
	if own != nil {
		return from, own
	}
	if err != nil {
		return from, fmt.Errorf("journal %s, offset %d: %w", path, from.Offset, err)
	}
	return from, nil
}
