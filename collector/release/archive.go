package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// archive writes the program and the files that a person needs beside it, in one folder.
func (b *built) archive(to string) (name string, err error) {
	folder := fmt.Sprintf("%s_%s_%s", b.product.name, b.version, platforms[b.arch].archive)
	name = filepath.Join(to, folder+".tar.gz")
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for _, source := range b.archived() {
		if err = b.addTo(t, folder, source); err != nil {
			break
		}
	}
	return name, errors.Join(err, t.Close(), z.Close(), f.Close())
}

// archived returns the files of the archive, the program first.
func (b *built) archived() []string {
	names := []string{b.binary(), filepath.Join(b.source, b.manPage()), b.licences()}
	for _, name := range []string{"LICENSE", "README.md", "THIRD_PARTY.md", "CHANGELOG.md"} {
		names = append(names, filepath.Join(b.source, name))
	}
	for _, f := range b.product.files {
		names = append(names, filepath.Join(b.source, f.source))
	}
	return names
}

func (b *built) manPage() string {
	return filepath.Join(b.product.command, "packaging", b.product.command+".1")
}

func (b *built) addTo(t *tar.Writer, folder, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if source == b.binary() {
		mode = 0o755
	}
	if err := t.WriteHeader(&tar.Header{
		Name: folder + "/" + filepath.Base(source), Size: info.Size(), Mode: mode, ModTime: b.time,
		Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
	}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
