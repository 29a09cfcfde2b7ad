package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
)

// member is a member of an ar archive.
func member(name string, body []byte) string {
	pad := strings.Repeat("\n", len(body)%2)
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n%s%s", name, 0, 0, 0, "100644", len(body), body, pad)
}

// tarball is a compressed archive of one file.
func tarball(t testing.TB, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const goodControl = "Package: pisensor\nVersion: 1.0.0\nArchitecture: armhf\nDescription: x\n y\n"

func TestDebControl(t *testing.T) {
	deb := func(name, file, text string) []byte {
		return []byte(arMagic + member("debian-binary", []byte("2.0\n")) + member(name, tarball(t, file, text)))
	}
	if text, err := debControl(deb("control.tar.gz", "./control", goodControl)); err != nil || text != goodControl {
		t.Errorf("%q, %v", text, err)
	}
	for want, b := range map[string][]byte{
		"not a Debian package":    []byte("!<arch>\nnonsense"),
		"not a Debian package as": deb("control.tar.xz", "control", goodControl),
		"find the control file":   deb("control.tar.gz", "md5sums", goodControl),
		"Architecture is \"\"":    deb("control.tar.gz", "control", "Package: x\nVersion: 1\n"),
		"has an empty line":       deb("control.tar.gz", "control", goodControl+"\nPackage: evil\n"),
		"Architecture is \"../x":  deb("control.tar.gz", "control", "Package: x\nVersion: 1\nArchitecture: ../x\n"),
		"read control.tar.gz":     []byte(arMagic + member("control.tar.gz", []byte("plain"))),
	} {
		if text, err := debControl(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
}

func FuzzDebControl(f *testing.F) {
	f.Add([]byte(arMagic + member("debian-binary", []byte("2.0\n")) + member("control.tar.gz", tarball(f, "./control", goodControl))))
	f.Add([]byte(arMagic + member("control.tar.gz", nil)))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := debControl(b)
		if err == nil && (field(text, "Package") == "" || strings.Contains(strings.TrimSpace(text), "\n\n")) {
			t.Errorf("took %q", text)
		}
	})
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32) + "  apt/pool/main/x.deb\n"))
	f.Add([]byte("00  x\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, err := parseSums(b)
		for name := range sums {
			if err == nil && (name == "" || strings.Contains(name, "\n")) {
				t.Errorf("took the name %q", name)
			}
		}
	})
}
