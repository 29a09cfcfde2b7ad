package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sumsFile lists the SHA-256 of everything else, as sha256sum writes and checks it.
const sumsFile = "SHA256SUMS"

// writeSums writes the list of a finished release, and its signature.
func writeSums(dir string, s *signer) error {
	var list bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(b), filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, sumsFile)
	if err := os.WriteFile(file, list.Bytes(), 0o644); err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	return s.detach(file, file+".asc")
}

// readSums reads the list of a release by the names in it. With a signer the list
// must bear that key's signature.
func readSums(dir string, s *signer) (map[string][sha256.Size]byte, error) {
	file := filepath.Join(dir, sumsFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if s != nil {
		signature, err := os.ReadFile(file + ".asc")
		if err != nil {
			return nil, err
		}
		if err := s.check(b, bytes.NewReader(signature)); err != nil {
			return nil, fmt.Errorf("%s is not signed by the key of this release: %w", sumsFile, err)
		}
	}
	return parseSums(b)
}

func parseSums(b []byte) (map[string][sha256.Size]byte, error) {
	sums := map[string][sha256.Size]byte{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		digits, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		sum, err := hex.DecodeString(digits)
		if !ok || err != nil || len(sum) != sha256.Size || name == "" {
			return nil, fmt.Errorf("%s:%d: %q is not a checksum and a name", sumsFile, n, strings.TrimSpace(line))
		}
		sums[name] = [sha256.Size]byte(sum)
	}
	return sums, nil
}
