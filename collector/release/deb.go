package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// deb writes the Debian package into a directory.
func (b *built) deb(to string) (name string, err error) {
	contents, err := b.contents()
	if err != nil {
		return "", err
	}
	script := func(name string) string { return filepath.Join(b.source, b.product.command, "packaging", name) }
	info := &nfpm.Info{
		Name: b.product.name, Arch: b.arch, Platform: "linux", Version: b.version.core, Prerelease: b.version.pre, VersionSchema: "none",
		Section: b.product.section, Priority: "optional", Maintainer: b.maintainer, Description: b.product.description,
		DisableGlobbing: true, MTime: b.time,
		Overridables: nfpm.Overridables{
			Depends: b.product.depends, Recommends: b.product.recommends, Contents: contents,
			Scripts: nfpm.Scripts{PostInstall: script("postinst"), PreRemove: script("prerm"), PostRemove: script("postrm")},
			// Every dpkg reads gzip; level 9 takes twice the time for one per cent.
			Deb: nfpm.Deb{Arch: b.arch, Compression: "gzip:6"},
		},
	}
	name = filepath.Join(to, deb.Default.ConventionalFileName(info))
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	return name, errors.Join(deb.Default.Package(info, f), f.Close())
}

// contents returns the files of the package: those that are in the source, and
// those that are made for it.
func (b *built) contents() (files.Contents, error) {
	doc := "/usr/share/doc/" + b.product.name
	list := files.Contents{
		content(b.binary(), "/usr/bin/"+b.product.command, 0o755),
		content(filepath.Join(b.source, b.product.command, "packaging", "copyright"), doc+"/copyright", 0o644),
	}
	for _, f := range b.product.files {
		c := content(filepath.Join(b.source, f.source), f.target, 0o644)
		if f.conf {
			c.Type = files.TypeConfig
		}
		list = append(list, c)
	}
	page, err := os.ReadFile(filepath.Join(b.source, b.manPage()))
	if err != nil {
		return nil, err
	}
	licences, err := os.ReadFile(b.licences())
	if err != nil {
		return nil, err
	}
	for _, z := range []struct {
		text   []byte
		target string
	}{
		{page, "/usr/share/man/man1/" + b.product.command + ".1.gz"},
		{licences, doc + "/licenses.txt.gz"},
		{b.changelog(), doc + "/changelog.gz"},
	} {
		source := filepath.Join(b.dir, filepath.Base(z.target))
		if err := os.WriteFile(source, compress(z.text), 0o644); err != nil {
			return nil, err
		}
		list = append(list, content(source, z.target, 0o644))
	}
	return list, nil
}

func content(source, target string, mode os.FileMode) *files.Content {
	return &files.Content{Source: source, Destination: target, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode}}
}

// changelog is the changelog that Debian requires; the changes for people are in CHANGELOG.md.
func (b *built) changelog() []byte {
	return fmt.Appendf(nil, "%s (%s) stable; urgency=medium\n\n  * Bramble %s; its CHANGELOG.md says what changed.\n\n -- %s  %s\n",
		b.product.name, b.version.debian(), b.version, b.maintainer, b.time.Format(time.RFC1123Z))
}

// compress gzips without name and time, so that the result is always the same.
func compress(text []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	// A bytes.Buffer takes everything.
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}
