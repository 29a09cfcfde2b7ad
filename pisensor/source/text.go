package source

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"bramble/pisensor/report"
)

// Text is one fact of the board's description, read rarely. It is the board owner's claim, not a
// proof.
type Text struct {
	key   report.AttributeKey
	parse func([]byte) (string, error)
	paths []string
	value atomic.Pointer[string]
}

// NewText returns the fact that parse finds in the first of the paths that
// exists. parse returns ErrAbsent where the fact is not there.
func NewText(key report.AttributeKey, parse func([]byte) (string, error), paths ...string) *Text {
	return &Text{key: key, parse: parse, paths: paths}
}

// Item returns the fact's place in a Group.
func (x *Text) Item() Item { return Item{Name: x.key.String(), Reader: x, Every: Rarely} }

// Read reads the fact anew. It adds nothing to the tick.
func (x *Text) Read(_ *report.Tick, scratch []byte) error {
	for _, path := range x.paths {
		b, err := ReadOnce(path, scratch)
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			return err
		}
		return x.take(path, b)
	}
	return ErrAbsent
}

func (x *Text) take(path string, b []byte) error {
	v, err := x.parse(b)
	if err == nil {
		v, err = Printable(v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	x.Set(v)
	return nil
}

// Set gives the fact a value from elsewhere.
func (x *Text) Set(v string) {
	if old := x.value.Load(); old == nil || *old != v {
		x.value.Store(&v)
	}
}

// Append appends the fact as it was last read, if it ever was. Any goroutine
// may call it.
func (x *Text) Append(to []report.Attribute) []report.Attribute {
	if v := x.value.Load(); v != nil {
		to = append(to, report.Attribute{Key: x.key, Value: *v})
	}
	return to
}

// Close has nothing to close.
func (x *Text) Close() error { return nil }

// Plain takes a file's whole text as the fact.
func Plain(b []byte) (string, error) { return string(b), nil }

// Printable trims the NUL bytes, spaces and newlines around a text, and refuses one that the wire
// format cannot carry. An empty one is ErrAbsent.
func Printable(s string) (string, error) {
	s = strings.TrimSpace(strings.Trim(s, "\x00\n"))
	if s == "" {
		return "", ErrAbsent
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("%.40q is not printable text", s)
	}
	for len(s) > report.MaxAttributeSize {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s, nil
}
