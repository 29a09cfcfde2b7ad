package storage

import "testing"

func TestMemoryGroup(t *testing.T) {
	f := func(groups, want string) {
		t.Helper()
		if got := memoryGroup([]byte(groups)); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
	f("12:memory:/docker/abc\n1:name=systemd:/\n0::/\n", "/docker/abc")
	f("3:cpu,cpuacct:/a\n4:hugetlb,memory:/b:c\n", "/b:c")
	f("0::/system.slice/bramble-collector.service\n", "/")
	f("4:memory:../../x\n", "/x")
	f("", "/")
}

func FuzzMemoryGroup(f *testing.F) {
	f.Add([]byte("4:memory:/b\n0::/"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := memoryGroup(b); got == "" || got[0] != '/' {
			t.Fatalf("%q", got)
		}
	})
}
