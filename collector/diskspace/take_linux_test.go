package diskspace

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTakeLeavesTheSize(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("what is there"); err != nil {
		t.Fatal(err)
	}
	known, err := Take(f, 13, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if !known {
		t.Skip("the file system has no reservations")
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &s); err != nil || s.Size != 13 || s.Blocks*512 < 1<<20 {
		t.Errorf("size %d, %d bytes taken, %v", s.Size, s.Blocks*512, err)
	}
}

func TestTakeFailsWhereThereIsNoSpace(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if known, err := Take(f, 0, 1<<60); known {
		t.Errorf("an exabyte: %v, %v", known, err)
	}
}
