package soc

import (
	"bytes"
	"errors"
	"strconv"
)

var errNumber = errors.New("not a number")

// parseInteger reads one decimal number with white space around it.
func parseInteger(b []byte) (int64, error) {
	return parseDecimal(b, 0)
}

// parseDecimal reads a number with up to places decimals and returns it times
// 10^places; further decimals are cut off. It allocates nothing.
func parseDecimal(b []byte, places int) (int64, error) {
	b = bytes.TrimSpace(b)
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	if len(whole) == 0 || len(whole)+places > 18 || !digits(whole) || !digits(fraction) {
		return 0, errNumber
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

// parseHex reads one hexadecimal number, with or without 0x.
func parseHex(b []byte) (uint32, error) {
	b = bytes.TrimPrefix(bytes.TrimSpace(b), []byte("0x"))
	if len(b) == 0 || len(b) > 8 {
		return 0, errNumber
	}
	var v uint32
	for _, c := range b {
		d, err := strconv.ParseUint(string(c), 16, 4)
		if err != nil {
			return 0, errNumber
		}
		v = v<<4 | uint32(d)
	}
	return v, nil
}
