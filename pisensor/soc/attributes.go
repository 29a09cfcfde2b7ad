package soc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bramble/pisensor/report"
)

// Attributes describes the board: model, revision, kernel, operating system
// and firmware, as far as it knows them. What it says is the board owner's
// word, not a proof of identity.
func (b *Board) Attributes() []report.Attribute {
	var found []report.Attribute
	add := func(key report.AttributeKey, value string) {
		if value = printable(value); value != "" {
			found = append(found, report.Attribute{Key: key, Value: value})
		}
	}
	add(report.AttributeModel, b.text("device-tree/model"))
	add(report.AttributeRevision, revision(b.bytes("device-tree/system/linux,revision")))
	add(report.AttributeKernel, b.text("sys/kernel/osrelease"))
	add(report.AttributeFirmware, b.firmware())
	add(report.AttributeOS, prettyName(readSmall(filepath.Join(b.roots.Etc, "os-release"))))
	return found
}

func (b *Board) bytes(name string) []byte { return readSmall(filepath.Join(b.roots.Procfs, name)) }

func (b *Board) text(name string) string { return string(b.bytes(name)) }

// readSmall returns a file's content, or nil where it cannot be read or is no
// small file.
func readSmall(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 64<<10 {
		return nil // an attribute that the board does not have
	}
	return b
}

// firmware names the firmware by the day of its build.
func (b *Board) firmware() string {
	if b.mailbox.absent() {
		return ""
	}
	b.mailbox.message.askRevision()
	a, ok := b.mailbox.call()
	if !ok || !a.hasRevision {
		return ""
	}
	return time.Unix(int64(a.revision), 0).UTC().Format("2006-01-02T15:04:05Z")
}

// revision writes the board's revision code as /proc/cpuinfo does.
func revision(b []byte) string {
	if len(b) != 4 {
		return ""
	}
	return fmt.Sprintf("%04x", binary.BigEndian.Uint32(b))
}

// prettyName finds the system's name in an os-release file.
func prettyName(b []byte) string {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("PRETTY_NAME=")); ok {
			return strings.Trim(string(v), `"'`)
		}
	}
	return ""
}

// printable trims what the device tree and files leave around a text, and
// drops one that cannot stand on the wire.
func printable(s string) string {
	s = strings.TrimSpace(strings.Trim(s, "\x00\n"))
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	for len(s) > report.MaxAttributeSize {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
