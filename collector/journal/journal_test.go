package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	seglog "bramble/storage/segment"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("JOURNAL_WRITER"); dir != "" {
		writeForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

// open opens and runs a journal; stop ends it. It returns the replayed records.
func open(t *testing.T, dir string) (j *Journal, replayed []string, stop func()) {
	t.Helper()
	return openWith(t, dir, Options{})
}

func openWith(t *testing.T, dir string, o Options) (j *Journal, replayed []string, stop func()) {
	t.Helper()
	j, err := Open(dir, o, func(b []byte) error { replayed = append(replayed, string(b)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return j, replayed, stop
}

func appendAll(t *testing.T, j *Journal, records ...string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, r := range records {
		wg.Add(1)
		if err := j.Append([]byte(r), func(Position) { wg.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func rotate(t *testing.T, j *Journal, checkpoint string) uint64 {
	t.Helper()
	done := make(chan uint64, 1)
	if err := j.Rotate([]byte(checkpoint), func(end Position) { done <- end.Segment }); err != nil {
		t.Fatal(err)
	}
	return <-done
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("replayed %q, want %q", got, want)
	}
}

func TestReplayReturnsCommittedRecords(t *testing.T) {
	dir := t.TempDir()
	j, got, stop := open(t, dir)
	expect(t, got)
	appendAll(t, j, "a", "", "c")
	stop()
	j, got, stop = open(t, dir)
	expect(t, got, "a", "", "c")
	appendAll(t, j, "d")
	stop()
	_, got, _ = open(t, dir)
	expect(t, got, "a", "", "c", "d")
}

func TestRotateAndRemove(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir)
	appendAll(t, j, "a", "b")
	number := rotate(t, j, "after b")
	appendAll(t, j, "c")
	stop()
	j, got, stop := open(t, dir)
	expect(t, got, "a", "b", "after b", "c")
	if err := j.Remove(number); err != nil {
		t.Fatal(err)
	}
	appendAll(t, j, "d")
	stop()
	_, got, _ = open(t, dir)
	expect(t, got, "after b", "c", "d")
}

// A journal that holds too much takes only records that cannot come later, also after a restart, until it is cut.
func TestALongJournalIsNotReadyUntilItIsCut(t *testing.T) {
	dir, o := t.TempDir(), Options{MaxBytes: 1000}
	large := strings.Repeat("x", 600)
	j, _, stop := openWith(t, dir, o)
	appendAll(t, j, large)
	if err := j.Ready(); err != nil {
		t.Errorf("600 of 1000 bytes: %v", err)
	}
	long := func(want bool) {
		t.Helper()
		deadline := time.After(time.Minute) // ends a hang; claims nothing
		for (j.Ready() != nil) != want {
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				t.Fatalf("ready: %v", j.Ready())
			}
		}
		if err := j.Rotatable(); err != nil || (j.Err() != nil) != want {
			t.Errorf("rotatable: %v, err: %v", err, j.Err())
		}
	}
	appendAll(t, j, large)
	long(true)
	appendAll(t, j, "a transition")
	stop()
	j, got, stop := openWith(t, dir, o)
	expect(t, got, large, large, "a transition")
	long(true)
	number := rotate(t, j, "checkpoint")
	long(true)
	if err := j.Remove(number); err != nil {
		t.Fatal(err)
	}
	long(false)
	appendAll(t, j, "more")
	stop()
	_, got, _ = openWith(t, dir, o)
	expect(t, got, "checkpoint", "more")
}

func TestRotationKeepsTheOrder(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir)
	var order []string // touched by Run's goroutine alone until stop
	for i := range 100 {
		name := strconv.Itoa(i)
		var err error
		if i%7 == 0 {
			err = j.Rotate([]byte(name), func(Position) { order = append(order, name) })
		} else {
			err = j.Append([]byte(name), func(Position) { order = append(order, name) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	_, got, _ := open(t, dir)
	expect(t, got, order...)
	if len(order) != 100 {
		t.Errorf("%d of 100 done functions were called", len(order))
	}
}

// TestReadGoesOnFromAnyPosition reads from the end of each record, across
// segments, while more is committed.
func TestReadGoesOnFromAnyPosition(t *testing.T) {
	j, _, _ := open(t, t.TempDir())
	var ends []Position
	ask := func(record string, f func([]byte, func(Position)) error) {
		done := make(chan Position)
		if err := f([]byte(record), func(end Position) { done <- end }); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, <-done)
	}
	all := []string{"a", "", "ccc", "checkpoint", "e", "f"}
	for i, r := range all {
		if i == 3 {
			ask(r, j.Rotate)
		} else {
			ask(r, j.Append)
		}
	}
	if got := j.End(); got != ends[5] || ends[2].Segment == ends[3].Segment {
		t.Errorf("ends at %v, the records at %v", got, ends)
	}
	for i, from := range append([]Position{{}}, ends...) {
		var got []string
		end, err := j.Read(from, func(r []byte, end Position) error {
			if want := ends[i+len(got)]; end != want {
				t.Errorf("record %d ends at %v, want %v", i+len(got), end, want)
			}
			got = append(got, string(r))
			return nil
		})
		if err != nil || end != j.End() {
			t.Errorf("from %v: up to %v, %v", from, end, err)
		}
		expect(t, got, all[i:]...)
	}
	stop := errors.New("enough")
	end, err := j.Read(ends[0], func(r []byte, _ Position) error {
		if string(r) == "checkpoint" {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || end != (Position{ends[3].Segment, seglog.HeaderSize + seglog.MarkSize}) && end != ends[2] {
		t.Errorf("stopped at %v with %v", end, err)
	}
}

func TestAppendAfterTheEnd(t *testing.T) {
	j, _, stop := open(t, t.TempDir())
	stop()
	if err := j.Append([]byte("late"), func(Position) { t.Error("done was called") }); err == nil {
		t.Error("no error")
	}
}

// lastSegment returns the path and bytes of the newest segment.
func lastSegment(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	numbers, err := format.Numbers(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := format.Path(dir, numbers[len(numbers)-1])
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, b
}

func TestTornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir)
	appendAll(t, j, "first")
	appendAll(t, j, "second")
	stop()
	path, whole := lastSegment(t, dir)
	firstEnds := seglog.HeaderSize + seglog.MarkSize + seglog.FrameSize + len("first")
	for cut := range whole {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, got, stop := open(t, dir)
		switch {
		case cut < firstEnds:
			expect(t, got)
		case cut < len(whole)-seglog.MarkSize: // of the seal
			expect(t, got, "first")
		default:
			expect(t, got, "first", "second")
		}
		appendAll(t, j, "third")
		stop()
		_, got, stop = open(t, dir)
		if got[len(got)-1] != "third" {
			t.Fatalf("cut at %d: replayed %q", cut, got)
		}
		stop()
	}
}

func TestDamageInAnOldSegmentIsNamed(t *testing.T) {
	dir := t.TempDir()
	j, _, stop := open(t, dir)
	appendAll(t, j, "acknowledged")
	rotate(t, j, "checkpoint")
	stop()
	path := format.Path(dir, 1)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{}, func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "offset 28") {
		t.Errorf("error %v, want one that names %s and offset 28", err, path)
	}
}

// left writes three segments, the last one with three groups, and returns the files as a killed process leaves them.
func left(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	j, _, stop := open(t, dir)
	appendAll(t, j, "a", "b")
	rotate(t, j, "c")
	rotate(t, j, "d")
	appendAll(t, j, "e")
	appendAll(t, j, "f")
	files := filesOf(t, dir)
	stop()
	return files
}

func filesOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	numbers, err := format.Numbers(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, n := range numbers {
		path := format.Path(dir, n)
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// startOver opens the files in a directory of their own and returns the replayed records. Where they are damaged, Check
// says the same and nothing is changed.
func startOver(t *testing.T, files map[string][]byte) (replayed string, err error) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if checked := Check(dir); checked != nil {
		err = checked
	}
	j, failed := Open(dir, Options{Log: slog.New(slog.DiscardHandler)}, func(b []byte) error { replayed += string(b); return nil })
	if (err == nil) != (failed == nil) || failed != nil && !errors.Is(failed, ErrDamaged) {
		t.Fatalf("check says %v, open says %v", err, failed)
	}
	if failed != nil {
		if d := cmp.Diff(files, filesOf(t, dir)); d != "" {
			t.Fatalf("a damaged journal was changed: %s", d)
		}
		return "", failed
	}
	return replayed, j.segment.Close()
}

// TestEachByteOfAJournal flips every byte of every segment: a start has every record, or refuses. Only the last group of
// a process that was killed cannot be distinguished from one that was never committed.
func TestEachByteOfAJournal(t *testing.T) {
	files := left(t)
	last := format.Path("", 3)
	mayGo := len(files[last]) - seglog.MarkSize - seglog.FrameSize - 1 // the offset of the last group, "f"
	stopped := maps.Clone(files)
	salt, err := seglog.ParseHeader(files[last][:seglog.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	stopped[last] = salt.AppendMark(bytes.Clone(files[last]), int64(len(files[last])))
	for name, whole := range files {
		for at := range whole {
			flip := []byte{1, 0xff}[at%2]
			f := func(files map[string][]byte, want ...string) {
				t.Helper()
				damaged := maps.Clone(files)
				damaged[name] = bytes.Clone(files[name])
				damaged[name][at] ^= flip
				got, err := startOver(t, damaged)
				if err == nil && !slices.Contains(want, got) {
					t.Fatalf("%s, byte %d ^ %#x: replayed %q", name, at, flip, got)
				}
			}
			f(stopped)
			if name == last && at >= mayGo {
				f(files, "abcde")
			} else {
				f(files)
			}
		}
	}
}

// A power loss leaves any part of the last group, and nothing behind it.
func TestAnyPartOfTheLastGroupIsNoDamage(t *testing.T) {
	files := left(t)
	last := format.Path("", 3)
	whole := files[last]
	for at := len(whole) - seglog.MarkSize - seglog.FrameSize - 1; at < len(whole); at++ {
		for _, torn := range [][]byte{whole[:at], append(bytes.Clone(whole[:at]), make([]byte, 600)...), append(bytes.Clone(whole[:at]), bytes.Repeat([]byte{0xff}, 600)...)} {
			files[last] = torn
			if got, err := startOver(t, files); err != nil || got != "abcde" {
				t.Fatalf("cut at %d of %d: replayed %q, %v", at, len(whole), got, err)
			}
		}
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(format.Path(dir, 1), []byte("something else entirely"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}, func([]byte) error { return nil }); err == nil {
		t.Error("no error")
	}
}

// writeForEver appends numbered records and prints each number once it is
// committed, until somebody kills the process.
func writeForEver(dir string) {
	j, err := Open(dir, Options{}, func([]byte) error { return nil })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go j.Run(context.Background())
	out := bufio.NewWriter(os.Stdout)
	for n := uint64(0); ; n++ {
		record := binary.BigEndian.AppendUint64(nil, n)
		record = append(record, bytes.Repeat([]byte{'x'}, int(n%500))...)
		done := func(Position) { fmt.Fprintln(out, n); out.Flush() }
		if n%1000 == 999 {
			err = j.Rotate(record, done)
		} else {
			err = j.Append(record, done)
		}
		if err != nil {
			os.Exit(1)
		}
	}
}

func TestKillLosesNothingCommitted(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "JOURNAL_WRITER="+dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		committed := uint64(0)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			committed, _ = strconv.ParseUint(lines.Text(), 10, 64)
			if committed == 3500 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		next := uint64(0)
		_, err = Open(dir, Options{}, func(b []byte) error {
			if n := binary.BigEndian.Uint64(b); n != next {
				return fmt.Errorf("record %d where %d belongs", n, next)
			}
			next++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if next <= committed {
			t.Fatalf("record %d was committed, %d records are there", committed, next)
		}
	}
}

func FuzzParse(f *testing.F) {
	begin, salt := seglog.NewHeader(format.Magic)
	f.Add(append(append(salt.AppendMark(bytes.Clone(begin), seglog.HeaderSize), format.AppendRecord(nil, []byte("a"))...), format.AppendRecord(nil, nil)...))
	f.Add(begin)
	f.Fuzz(func(t *testing.T, b []byte) {
		last := int64(-1)
		size, err := format.Read(bytes.NewReader(b), 0, int64(len(b)), func(r []byte, end int64) error {
			if start := end - int64(len(r)); start < last+seglog.FrameSize || !bytes.Equal(r, b[start:end]) {
				t.Fatalf("a record of %d bytes ends at %d, the one before at %d", len(r), end, last)
			}
			last = end
			return nil
		})
		if size > int64(len(b)) || size < last || err == nil && size != int64(len(b)) {
			t.Fatalf("ends at %d of %d bytes, the last record at %d: %v", size, len(b), last, err)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	j, err := Open(filepath.Join(b.TempDir(), "journal"), Options{}, func([]byte) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { j.Run(ctx); close(ended) }()
	record := bytes.Repeat([]byte{'x'}, 100)
	var wg sync.WaitGroup
	for b.Loop() {
		wg.Add(1)
		if err := j.Append(record, func(Position) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	cancel()
	<-ended
}
