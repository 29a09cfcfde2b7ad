package ingest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"bramble/alerting/alert"
	"bramble/pisensor/report"
)

// JournalVersion rises when an older collector could not read the records that this one writes into the journal: a record of a
// new kind, a field without which a record means something else, files of another frame (2: marks of commit groups).
// Records of all older versions are read for ever.
const JournalVersion = 2

// Kinds of journal records: their first byte.
const (
	recordReport     = 1 // a report as the board sent it, and its transitions
	recordOwn        = 2 // readings and transitions of the collector's own
	recordCheckpoint = 3 // the state that all records before it have led to
	recordLimited    = 4 // a report of which some series were refused
)

// A report record is: kind, length and name of the board, time of arrival in
// Unix ms, length and JSON of the transitions that it caused, and the report's
// bytes. Before these, a record with refused series has their columns, a length
// and a varint each. Placed times, labels and rows follow from it all, the same
// each time.
type reportRecord struct {
	board       string
	received    int64
	transitions []alert.Transition
	refused     []int // columns, ascending
	report      []byte
}

func (r *reportRecord) append(dst []byte) ([]byte, error) {
	var transitions []byte
	if len(r.transitions) > 0 {
		var err error
		if transitions, err = json.Marshal(r.transitions); err != nil {
			return nil, fmt.Errorf("encode transitions of board %s: %w", r.board, err)
		}
	}
	kind := byte(recordReport)
	if len(r.refused) > 0 {
		kind = recordLimited
	}
	dst = append(dst, kind)
	dst = appendBytes(dst, []byte(r.board))
	dst = binary.AppendUvarint(dst, uint64(r.received))
	dst = appendBytes(dst, transitions)
	if kind == recordLimited {
		var columns []byte
		for _, k := range r.refused {
			columns = binary.AppendUvarint(columns, uint64(k))
		}
		dst = appendBytes(dst, columns)
	}
	return append(dst, r.report...), nil
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

var errRecord = errors.New("a record is not one of this version")

// decodeReportRecord takes a record apart, kind byte already removed. The
// report refers to b.
func decodeReportRecord(b []byte, limited bool) (r reportRecord, err error) {
	board, b, err := cutBytes(b)
	if err != nil {
		return r, err
	}
	received, n := binary.Uvarint(b)
	if n <= 0 {
		return r, errRecord
	}
	transitions, b, err := cutBytes(b[n:])
	if err != nil {
		return r, err
	}
	r = reportRecord{board: string(board), received: int64(received)}
	if limited {
		var columns []byte
		if columns, b, err = cutBytes(b); err != nil {
			return r, err
		}
		for len(columns) > 0 {
			k, n := binary.Uvarint(columns)
			if n <= 0 || k >= report.MaxColumns {
				return r, errRecord
			}
			r.refused, columns = append(r.refused, int(k)), columns[n:]
		}
	}
	r.report = b
	if len(transitions) > 0 {
		err = json.Unmarshal(transitions, &r.transitions)
	}
	return r, err
}

func cutBytes(b []byte) (cut, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errRecord
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// ownRecord is a record of the collector's own findings, as JSON.
type ownRecord struct {
	At          int64              `json:"at,omitempty"`
	Boards      []ownBoard         `json:"boards,omitempty"`
	Stopped     string             `json:"stopped,omitempty"` // a board whose sensor ended properly
	Expected    *Expectation       `json:"expected,omitempty"`
	Transitions []alert.Transition `json:"transitions,omitempty"`
}

// ownBoard is a board whose pi_board_up changed.
type ownBoard struct {
	Name string `json:"name"`
	Up   bool   `json:"up,omitempty"`
}

func appendOwnRecord(dst []byte, r ownRecord) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the collector's own record: %w", err)
	}
	return append(append(dst, recordOwn), b...), nil
}
