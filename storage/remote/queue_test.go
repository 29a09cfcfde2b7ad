package remote

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"

	"bramble/storage/segment"
)

// readQueueOf opens a queue that consists of one file and returns the bodies that it holds. A damaged file is not changed.
func readQueueOf(t *testing.T, file []byte) (bodies string, err error) {
	t.Helper()
	dir := t.TempDir()
	path := queueFormat.Path(dir, 7)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	q, err := openQueue(dir)
	if err != nil {
		now, readErr := os.ReadFile(path)
		if !errors.Is(err, ErrDamagedQueue) || !strings.Contains(err.Error(), path) || readErr != nil || !bytes.Equal(now, file) {
			t.Fatalf("error %v; the file has %d bytes of %d, %v", err, len(now), len(file), readErr)
		}
		return "", err
	}
	defer q.close()
	for at := q.start(); ; {
		body, rows, next, ok, err := q.read(at)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return bodies, nil
		}
		plain, err := zstd.Decompress(nil, body)
		if err != nil || rows != 7 {
			t.Fatalf("%q of %d rows: %v", body, rows, err)
		}
		bodies, at = bodies+string(plain), next
	}
}

// TestEachByteOfAQueue flips every byte of a file with three groups: a start has every request, or refuses. Only the last
// group of a process that was killed cannot be told from one that no sync covered.
func TestEachByteOfAQueue(t *testing.T) {
	q, err := openQueue(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lastGroup := int64(0)
	for _, group := range []string{"ab", "c", "d"} {
		lastGroup = q.last().size
		for _, body := range group {
			if err := q.append([]byte(string(body)), 7); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.sync(); err != nil {
			t.Fatal(err)
		}
	}
	path := q.path(q.last().number)
	killed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	stopped, err := os.ReadFile(path)
	if err != nil || len(stopped) != len(killed)+segment.MarkSize {
		t.Fatalf("%d bytes, %d after a proper end, %v", len(killed), len(stopped), err)
	}
	f := func(file []byte, at int, flip byte, want ...string) {
		t.Helper()
		damaged := bytes.Clone(file)
		damaged[at] ^= flip
		if got, err := readQueueOf(t, damaged); err == nil && !slices.Contains(want, got) {
			t.Fatalf("byte %d of %d ^ %#x: %q", at, len(file), flip, got)
		}
	}
	for _, whole := range [][]byte{killed, stopped} {
		if got, err := readQueueOf(t, whole); err != nil || got != "abcd" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for at := range stopped {
		for _, flip := range []byte{1, 0xff} {
			switch {
			case at >= len(killed):
				f(stopped, at, flip, "abcd")
			case at >= int(lastGroup):
				f(killed, at, flip, "abc")
				f(stopped, at, flip)
			default:
				f(killed, at, flip)
				f(stopped, at, flip)
			}
		}
	}
	for at := int(lastGroup); at < len(killed); at++ {
		for _, torn := range [][]byte{killed[:at], append(bytes.Clone(killed[:at]), make([]byte, 300)...)} {
			if got, err := readQueueOf(t, torn); err != nil || got != "abc" {
				t.Fatalf("torn at %d: %q, %v", at, got, err)
			}
		}
	}
}

// The remains of a failed append behind the end are not damage to the next start.
func TestAFailedAppendIsNoDamage(t *testing.T) {
	q, err := openQueue(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := q.path(q.last().number)
	writable := q.file.File
	if q.file.File, err = os.Open(path); err != nil { // writing fails
		t.Fatal(err)
	}
	if err := q.append([]byte("a"), 7); err == nil {
		t.Fatal("a request was written to a file that is read-only")
	}
	q.file.Close()
	q.file.File = writable
	if _, err := q.file.WriteAt(q.buffer[:len(q.buffer)-1], q.last().size); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"b", "c"} {
		if err := errors.Join(q.append([]byte(body), 7), q.sync()); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readQueueOf(t, file); err != nil || got != "bc" {
		t.Errorf("%q, %v", got, err)
	}
}
