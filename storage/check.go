package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding"
)

// Files of one part, as the engine names them (lib/storage/filenames.go, lib/mergeset/filenames.go).
var (
	dataFiles  = []string{"index.bin", "timestamps.bin", "values.bin"}
	indexFiles = []string{"index.bin", "items.bin", "lens.bin"}
)

// checkFiles looks for the damage that makes the engine panic in a goroutine of its own when it opens dir,
// where no caller can catch it: lists of parts that do not parse, parts that are listed but gone, and parts
// without readable metadata. It also looks for months whose index is gone: the engine makes an empty one, and finds their
// series where another month has them. It reads a few small files a part and changes nothing.
func checkFiles(dir string) error {
	data := filepath.Join(dir, "data")
	err := eachPartition(filepath.Join(data, "small"), func(name string) error {
		return checkDataPartition(data, name)
	})
	if err != nil {
		return err
	}
	return eachPartition(filepath.Join(data, "indexdb"), func(name string) error {
		return checkIndexPartition(filepath.Join(data, "indexdb", name))
	})
}

// eachPartition calls f with the name of each monthly folder in dir. A folder that is empty or marked for
// removal is left to the engine, which removes it.
func eachPartition(dir string, f func(name string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "snapshots" || leavesSoon(filepath.Join(dir, e.Name())) {
			continue
		}
		if err := f(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func leavesSoon(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return true
	}
	_, err = os.Stat(filepath.Join(dir, ".delete-this-dir"))
	return err == nil
}

func checkDataPartition(data, name string) error {
	var parts struct{ Small, Big []string }
	small, big := filepath.Join(data, "small", name), filepath.Join(data, "big", name)
	if err := readParts(small, &parts); err != nil {
		return err
	}
	if len(parts.Small)+len(parts.Big) > 0 {
		if err := checkIndexed(filepath.Join(data, "indexdb"), name); err != nil {
			return err
		}
	}
	return errors.Join(checkParts(small, parts.Small, dataFiles), checkParts(big, parts.Big, dataFiles))
}

// checkIndexed reports a month with readings that has no index: both are made before there are readings.
func checkIndexed(indexes, name string) error {
	if _, err := os.Stat(indexes); errors.Is(err, fs.ErrNotExist) {
		return nil // of an engine that had one index for all months
	}
	path := filepath.Join(indexes, name)
	if _, err := os.Stat(path); err != nil {
		return damaged(path, err)
	}
	return nil
}

func checkIndexPartition(dir string) error {
	var parts []string
	if err := readParts(dir, &parts); err != nil {
		return err
	}
	return checkParts(dir, parts, indexFiles)
}

// readParts decodes the list of parts of a partition. None means that the partition was just created.
func readParts(dir string, into any) error {
	path := filepath.Join(dir, "parts.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		// The engine removes all parts that the list does not name, and takes a list without its own keys for an empty one.
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(into)
	}
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

func checkParts(dir string, parts, files []string) error {
	for _, part := range parts {
		path := filepath.Join(dir, part)
		for _, file := range files {
			if _, err := os.Stat(filepath.Join(path, file)); err != nil {
				return damaged(filepath.Join(path, file), err)
			}
		}
		if err := checkMetadata(filepath.Join(path, "metadata.json")); err != nil {
			return err
		}
		if err := checkMetaindex(filepath.Join(path, "metaindex.bin")); err != nil {
			return err
		}
	}
	return nil
}

func checkMetadata(path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		var any map[string]json.RawMessage
		err = json.Unmarshal(data, &any)
	}
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

func checkMetaindex(path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		data, err = encoding.DecompressZSTD(nil, data)
	}
	if err == nil && len(data) == 0 {
		err = errors.New("no rows")
	}
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: file %s: %w; restore the store from a backup", ErrDamaged, path, err)
}
