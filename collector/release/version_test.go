package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	f := func(in, text, debian string) {
		t.Helper()
		v, err := parseVersion(in)
		if err != nil || v.String() != text || v.debian() != debian {
			t.Errorf("%s: %s, %s, %v; want %s, %s", in, v, v.debian(), err, text, debian)
		}
	}
	f("v1.2.3", "1.2.3", "1.2.3")
	f("10.0.0", "10.0.0", "10.0.0")
	f("v1.2.3-rc.1", "1.2.3-rc.1", "1.2.3~rc.1")
	for _, bad := range []string{"", "v", "1", "v1.2", "01.2.3", "v1.2.3-", "v1.2.3+x", "v1.2.3-a-b", "1.2.3\n", "v1.2.3-a..b"} {
		if v, err := parseVersion(bad); err == nil {
			t.Errorf("%q was taken for %s", bad, v)
		}
	}
}

func TestVersionsSort(t *testing.T) {
	program(t, "dpkg")
	rising := []string{"0.0.0-20261124183000.g1083c5c0d123", "0.0.0-20261125183000.g0083c5c0d123", "0.1.0-rc.1", "0.1.0-rc.2", "0.1.0", "0.1.1", "0.10.0"}
	for i := 1; i < len(rising); i++ {
		a, errA := parseVersion(rising[i-1])
		b, errB := parseVersion(rising[i])
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		must(t, "dpkg", "--compare-versions", a.debian(), "lt", b.debian())
	}
}

func TestVersionOfACommit(t *testing.T) {
	program(t, "git")
	dir := t.TempDir()
	do := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=test", "-c", "user.email=test@example.org"}, args...)...)
		cmd.Env = append(cmd.Environ(), "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	do("init", "-q")
	do("commit", "-q", "--allow-empty", "-m", "one")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if at, err := sourceTime(t.Context(), dir); err != nil || at.Format("2006-01-02 15:04:05") != "2026-01-02 03:04:05" {
		t.Errorf("time %v, %v", at, err)
	}
	if v, err := tagged(t.Context(), dir); err != nil || !strings.HasPrefix(v.String(), "0.0.0-20260102030405.g") {
		t.Errorf("untagged: %s, %v", v, err)
	}
	do("tag", "-a", "-m", "x", "v0.3.0")
	if v, err := tagged(t.Context(), dir); err != nil || v.String() != "0.3.0" {
		t.Errorf("tagged: %s, %v", v, err)
	}
	do("init", "-q", dir+"/inner")
	if _, err := tagged(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "changes that no commit holds") {
		t.Errorf("changed: %v", err)
	}
}
