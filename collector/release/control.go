package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes before each member (ar(5))
	// maxControl is far above any control file, so that a bad package cannot fill the memory.
	maxControl = 1 << 20
)

var errNotDeb = errors.New("not a Debian package as this program writes it")

// debControl returns the control file of a package.
func debControl(b []byte) (string, error) {
	rest, ok := bytes.CutPrefix(b, []byte(arMagic))
	if !ok {
		return "", errNotDeb
	}
	for len(rest) >= arHeader {
		name := strings.TrimRight(string(rest[:16]), " /")
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size < 0 || size > len(rest)-arHeader || string(rest[58:60]) != "`\n" {
			return "", errNotDeb
		}
		body := rest[arHeader : arHeader+size]
		if name == "control.tar.gz" {
			return controlFile(body)
		}
		rest = rest[min(arHeader+size+size%2, len(rest)):]
	}
	return "", errNotDeb
}

func controlFile(b []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", fmt.Errorf("read control.tar.gz: %w", err)
	}
	t := tar.NewReader(io.LimitReader(z, maxControl))
	for {
		h, err := t.Next()
		if err != nil {
			return "", fmt.Errorf("find the control file: %w", err)
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return "", fmt.Errorf("read the control file: %w", err)
		}
		return string(text), checkControl(string(text))
	}
}

// checkControl refuses a text that would break the package list that it becomes part of.
func checkControl(text string) error {
	if strings.Contains(strings.TrimSpace(text), "\n\n") {
		return errors.New("the control file has an empty line")
	}
	for _, want := range []string{"Package", "Version", "Architecture"} {
		if v := field(text, want); v == "" || strings.ContainsAny(v, " \t/") {
			return fmt.Errorf("the control file's %s is %q", want, v)
		}
	}
	return nil
}

// field returns a one-line field of a control file, empty where it is absent.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
