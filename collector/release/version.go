package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// version is a semantic version without build metadata.
type version struct {
	core string // 1.2.3
	pre  string // rc.1, or empty
}

// versionForm leaves hyphens out of the pre-release: in a Debian version they
// would begin a revision.
var versionForm = regexp.MustCompile(`^v?((?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*))(?:-([0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*))?$`)

func parseVersion(s string) (version, error) {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return version{}, fmt.Errorf("version %q is not like v1.2.3 or v1.2.3-rc.1", s)
	}
	return version{core: m[1], pre: m[2]}, nil
}

// String is how the programs and the archives say it.
func (v version) String() string {
	if v.pre == "" {
		return v.core
	}
	return v.core + "-" + v.pre
}

// debian sorts a pre-release before its release, as dpkg does with a tilde.
func (v version) debian() string {
	if v.pre == "" {
		return v.core
	}
	return v.core + "~" + v.pre
}

// tagged is the version of the commit: its tag, else one that sorts before every
// release and names the commit.
func tagged(ctx context.Context, source string) (version, error) {
	changes, err := git(ctx, source, "status", "--porcelain")
	if err != nil {
		return version{}, fmt.Errorf("no version: give --version, or build in a git checkout (%w)", err)
	}
	if changes != "" {
		return version{}, errors.New("the source has changes that no commit holds: commit them, or give --version")
	}
	if tag, err := git(ctx, source, "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return parseVersion(tag)
	}
	commit, err := git(ctx, source, "log", "-1", "--format=%ct %h", "--abbrev=12")
	if err != nil {
		return version{}, err
	}
	seconds, hash, _ := strings.Cut(commit, " ")
	at, err := unixTime(seconds)
	if err != nil {
		return version{}, err
	}
	return version{core: "0.0.0", pre: at.Format("20060102150405") + ".g" + hash}, nil
}

// sourceTime is SOURCE_DATE_EPOCH (reproducible-builds.org), else the commit's time.
func sourceTime(ctx context.Context, source string) (time.Time, error) {
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		t, err := unixTime(s)
		if err != nil {
			return t, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		return t, nil
	}
	s, err := git(ctx, source, "log", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, fmt.Errorf("no time for the files: set SOURCE_DATE_EPOCH, or build in a git checkout (%w)", err)
	}
	return unixTime(s)
}

func unixTime(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("%q is not a number of seconds since 1970", s)
	}
	return time.Unix(n, 0).UTC(), nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
