package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// fixtureBoard is a board of testdata/boards: its files, written by hand after
// the kernel's and the firmware's sources, what its firmware answers, and what
// it is to report. testdata/boards/README.md describes the format.
type fixtureBoard struct {
	name     string
	files    map[string]string
	firmware string
	want     string
	about    string
}

func fixtureBoards(t *testing.T) (boards []fixtureBoard) {
	t.Helper()
	paths, err := filepath.Glob("testdata/boards/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d boards, %v", len(paths), err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b := fixtureBoard{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), files: map[string]string{}}
		for _, f := range a.Files {
			switch text := string(f.Data); f.Name {
			case "firmware":
				b.firmware = text
			case "want":
				b.want = text
			case "about":
				b.about = text
			default:
				b.files[f.Name] = text
			}
		}
		boards = append(boards, b)
	}
	return boards
}

// build writes the board's files below a directory of its own.
func (b *fixtureBoard) build(t *testing.T) source.Roots {
	t.Helper()
	root := t.TempDir()
	for name, text := range b.files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := place(path, name, text); err != nil {
			t.Fatal(err)
		}
	}
	return source.Roots{Sysfs: root + "/sys", Procfs: root + "/proc", Devfs: root + "/dev", Etc: root + "/etc"}
}

func place(path, name, text string) error {
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		return os.Symlink(strings.TrimSpace(target), path)
	}
	if strings.Contains(name, "/device-tree/") {
		var err error
		if text, err = strconv.Unquote(`"` + strings.TrimSuffix(text, "\n") + `"`); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// seriesOf writes readings as the collector names and scales them, sorted.
func seriesOf(readings []report.Reading) string {
	var found []string
	for _, r := range readings {
		d := report.Define(r.Series.Metric)
		for bit, reason := range d.Bits {
			found = append(found, fmt.Sprintf("%s{reason=%q} %d", d.Name, reason, r.Value>>bit&1))
		}
		name := d.Name
		switch {
		case d.Bits != nil:
			continue
		case d.InstanceLabel != "":
			name += fmt.Sprintf("{%s=%q}", d.InstanceLabel, r.Series.Instance)
		case d.Label != "":
			name += fmt.Sprintf("{%s=%q}", d.Label, d.Value)
		}
		found = append(found, name+" "+strconv.FormatFloat(d.Base(r.Value), 'f', -1, 64))
	}
	return sorted(strings.Join(found, "\n"))
}

// sorted sorts lines.
func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestBoards wants from each board exactly its series: what a board lacks has
// none.
func TestBoards(t *testing.T) {
	for _, b := range fixtureBoards(t) {
		t.Run(b.name, func(t *testing.T) {
			if b.firmware != "" {
				answerAs(t, b.firmware)
			}
			opened := openBoard(b.build(t), slog.New(slog.NewTextHandler(io.Discard, nil)))
			var tick report.Tick
			opened.Read(&tick)
			if diff := cmp.Diff(sorted(b.want), seriesOf(tick.Readings)); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
			var about strings.Builder
			for _, a := range opened.Attributes() {
				fmt.Fprintf(&about, "%s %s\n", a.Key, a.Value)
			}
			if diff := cmp.Diff(sorted(b.about), sorted(about.String())); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
