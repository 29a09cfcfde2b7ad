package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bramble/collector/registry"
	"bramble/storage/durable"
)

const (
	// format is the version of the layout. A higher one is refused.
	format = 1
	// manifestName is the file that makes a folder a backup.
	manifestName = "manifest.json"
	// maxManifest bounds a manifest, in bytes: 100,000 files fit.
	maxManifest = 32 << 20
	// nameLayout makes a backup's name from its time in UTC; names sort by time.
	nameLayout = "2006-01-02T150405.000Z"
)

// Manifest lists the content of a backup. Its checksum covers every other byte of it.
type Manifest struct {
	Format    int    `json:"format"`
	Name      string `json:"name"`
	Collector string `json:"collector"` // the version that wrote it
	// Taken is the instant that a restore returns to, UTC in whole milliseconds.
	Taken   time.Time `json:"taken"`
	Seconds float64   `json:"seconds"` // how long writing took
	Bytes   int64     `json:"bytes"`   // of all files together
	Rows    uint64    `json:"rows"`    // that the parts' metadata of the snapshot state
	Series  uint64    `json:"series"`
	// RollupRows and RollupSeries are those of the rollups.
	RollupRows   uint64            `json:"rollup_rows,omitempty"`
	RollupSeries uint64            `json:"rollup_series,omitempty"`
	State        registry.Contents `json:"state"`
	// Pin names the CA; Recipient is the age key that secrets.age is encrypted for.
	Pin       string    `json:"pin"`
	Recipient string    `json:"recipient"`
	Excluded  []string  `json:"excluded"` // the things left out, with the reasons
	Files     []FileSum `json:"files"`
	// Test is the last test restore; nil before the first.
	Test     *Test  `json:"test,omitempty"`
	Checksum string `json:"checksum"` // SHA-256 of this document with an empty checksum
}

// FileSum is one file of a backup. Path is relative to its folder, with slashes.
type FileSum struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Test is the result of a test restore. An empty Error means that everything was found.
type Test struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error,omitempty"`
}

// Good reports whether the backup has been restored successfully when it was last tried.
func (m *Manifest) Good() bool { return m.Test != nil && m.Test.Error == "" }

// encode returns the canonical bytes, with the checksum of the manifest as it is now.
func (m *Manifest) encode() ([]byte, error) {
	sealed := *m
	sealed.Checksum = ""
	plain, err := json.MarshalIndent(sealed, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	sum := sha256.Sum256(plain)
	sealed.Checksum = hex.EncodeToString(sum[:])
	return json.MarshalIndent(sealed, "", " ")
}

// decode accepts exactly the bytes that encode returns.
func decode(data []byte) (*Manifest, error) {
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	if version.Format != format {
		return nil, fmt.Errorf("decode manifest: its format is %d, this build knows %d: use the collector that wrote it", version.Format, format)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("decode manifest: its checksum does not match: the file was changed or damaged")
	}
	return m, m.check()
}

// holds reports whether a folder of the backup has any file.
func (m *Manifest) holds(folder string) bool {
	return slices.ContainsFunc(m.Files, func(f FileSum) bool { return strings.HasPrefix(f.Path, folder+"/") })
}

// check refuses paths that lead out of the folder, or meet.
func (m *Manifest) check() error {
	seen := map[string]bool{manifestName: true}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Path) || f.Path != filepath.ToSlash(filepath.Clean(f.Path)) || seen[f.Path] || f.Size < 0 {
			return fmt.Errorf("check manifest: file %q of %d bytes is not one that a backup can hold", f.Path, f.Size)
		}
		seen[f.Path] = true
	}
	for _, needed := range []string{stateFile, secretsFile} {
		if !seen[needed] {
			return fmt.Errorf("check manifest: it lists no %s", needed)
		}
	}
	return nil
}

// readManifest reads the manifest of the backup on a shelf.
func readManifest(ctx context.Context, s shelf) (*Manifest, error) {
	f, err := s.open(ctx, manifestName)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("read manifest: %s is larger than %d bytes", s, maxManifest)
	}
	m, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", s, manifestName, err)
	}
	return m, nil
}

// write puts the manifest in place, on disk when it returns, or leaves the old one.
func (m *Manifest) write(ctx context.Context, s shelf) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return s.write(ctx, manifestName, data)
}

// writeFile replaces a file as a whole. Its directory's owner has it.
func writeFile(path string, data []byte) error {
	return durable.Replace(path, func(f *os.File) error {
		_, err := f.Write(data)
		return errors.Join(err, inherit(f.Name()))
	})
}

// validName reports whether a folder's name is a backup's.
func validName(name string) bool {
	_, err := time.Parse(nameLayout, name)
	return err == nil && !strings.ContainsAny(name, `/\`)
}
