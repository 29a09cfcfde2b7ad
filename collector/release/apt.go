package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// suite is the one distribution of the tree: the packages hold one static program
// and do not differ between Debian's releases.
const suite = "stable"

// aptTree is a tree that apt installs from, once a web server or a disk shows it.
type aptTree struct {
	dir  string
	time time.Time
}

// poolName is where the packages lie, relative to the tree.
const poolName = "pool/main"

func (a aptTree) pool() string { return filepath.Join(a.dir, poolName) }

// keep takes over the packages of an earlier release. They are signed again with
// the tree, so their checksums have to be those that this key has signed.
func (a aptTree) keep(previous string, s *signer) error {
	sums, err := readSums(previous, s)
	if err != nil {
		return err
	}
	for name, sum := range sums {
		deb, ok := strings.CutPrefix(name, "apt/"+poolName+"/")
		if !ok || deb != filepath.Base(deb) || !strings.HasSuffix(deb, ".deb") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(previous, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if sha256.Sum256(b) != sum {
			return fmt.Errorf("%s is not the file that %s names", name, sumsFile)
		}
		if err := os.WriteFile(filepath.Join(a.pool(), deb), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// index writes the files that apt reads first: the lists of packages, and the signed list of these.
func (a aptTree) index(s *signer) error {
	lists, err := a.packages()
	if err != nil {
		return err
	}
	dist := filepath.Join(a.dir, "dists", suite)
	var sums bytes.Buffer
	archs := slices.Sorted(maps.Keys(lists))
	for _, arch := range archs {
		text := lists[arch]
		name := "main/binary-" + arch + "/Packages"
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dist, name)), 0o755); err != nil {
			return err
		}
		for name, b := range map[string][]byte{name: text, name + ".gz": compress(text)} {
			if err := os.WriteFile(filepath.Join(dist, name), b, 0o644); err != nil {
				return err
			}
		}
		for _, f := range []struct {
			name string
			b    []byte
		}{{name, text}, {name + ".gz", compress(text)}} {
			fmt.Fprintf(&sums, " %x %d %s\n", sha256.Sum256(f.b), len(f.b), f.name)
		}
	}
	release := fmt.Appendf(nil, "Origin: Bramble\nLabel: Bramble\nSuite: %s\nCodename: %s\nDate: %s\nArchitectures: %s\nComponents: main\n"+
		"Description: pisensor and bramble-collector\nSHA256:\n%s", suite, suite, a.time.Format("Mon, 02 Jan 2006 15:04:05 UTC"), strings.Join(archs, " "), &sums)
	file := filepath.Join(dist, "Release")
	if err := os.WriteFile(file, release, 0o644); err != nil || s == nil {
		return err
	}
	return errors.Join(s.inline(release, filepath.Join(dist, "InRelease")), s.detach(file, file+".gpg"))
}

// packages returns the list of each architecture's packages, made from the packages.
func (a aptTree) packages() (map[string][]byte, error) {
	names, err := filepath.Glob(filepath.Join(a.pool(), "*.deb"))
	if err != nil {
		return nil, err
	}
	lists := map[string][]byte{}
	for _, name := range names { // sorted
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		control, err := debControl(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		arch := field(control, "Architecture")
		lists[arch] = fmt.Appendf(lists[arch], "%s\nFilename: %s\nSize: %d\nSHA256: %x\n\n",
			strings.TrimSpace(control), path.Join(poolName, filepath.Base(name)), len(b), sha256.Sum256(b))
	}
	return lists, nil
}
