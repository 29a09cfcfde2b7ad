package source

import "testing"

func TestASourceThatWasSlowIsReadTheUsualWay(t *testing.T) {
	var p prompt
	p.took(promptly)
	if p.slow {
		t.Error("a prompt answer counts as slow")
	}
	p.took(promptly + 1)
	p.took(0)
	if !p.slow {
		t.Error("a slow answer is forgotten")
	}
}

func TestAFileReadsAlikeBothWays(t *testing.T) {
	for _, path := range []string{"/proc/version", "/proc/cpuinfo", "/proc/filesystems", "/proc/sys/fs/pipe-max-size"} {
		scratch := make([]byte, 2*scratchSize)
		got, err := NewFile(At(path)).ReadAll(scratch[:scratchSize])
		want, err2 := NewSlowFile(At(path)).ReadAll(scratch[scratchSize:])
		if err != nil || err2 != nil || len(got) == 0 || string(got) != string(want) {
			t.Errorf("%s: %d bytes (%v), the usual way %d (%v)", path, len(got), err, len(want), err2)
		}
	}
}
