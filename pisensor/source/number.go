package source

import (
	"bytes"
	"fmt"
)

// maxDigits keeps every number far below the overflow of an int64.
const maxDigits = 18

// Integer reads one decimal number with white space around it.
func Integer(b []byte) (int64, error) { return Decimal(b, 0) }

// Decimal reads a number with up to places decimals and returns it times
// 10^places; further decimals are cut off. It allocates nothing where it
// succeeds.
func Decimal(b []byte, places int) (int64, error) {
	text := bytes.TrimSpace(b)
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	if len(whole) == 0 || len(whole)+places > maxDigits || !digits(whole) || !digits(fraction) {
		return 0, notANumber(b)
	}
	var v int64
	for _, c := range whole {
		v = v*10 + int64(c-'0')
	}
	for i := range places {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	if negative {
		v = -v
	}
	return v, nil
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Hex reads one hexadecimal number of 32 bits, with or without 0x.
func Hex(b []byte) (uint32, error) {
	text := bytes.TrimPrefix(bytes.TrimSpace(b), []byte("0x"))
	if len(text) == 0 || len(text) > 8 {
		return 0, notANumber(b)
	}
	var v uint32
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		case c >= 'A' && c <= 'F':
			v = v<<4 | uint32(c-'A'+10)
		default:
			return 0, notANumber(b)
		}
	}
	return v, nil
}

// notANumber names the text, or its beginning.
func notANumber(b []byte) error {
	const shown = 32
	if len(b) > shown {
		return fmt.Errorf("%q… is not a number", b[:shown])
	}
	return fmt.Errorf("%q is not a number", b)
}

// Field cuts the next word off a line. It skips leading spaces and tabs; rest begins behind the
// word.
func Field(b []byte) (word, rest []byte) {
	start := 0
	for start < len(b) && blank(b[start]) {
		start++
	}
	end := start
	for end < len(b) && !blank(b[end]) {
		end++
	}
	return b[start:end], b[end:]
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
