package dashboards

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

// The checks of the pages' JavaScript lie in web as well and are no part of the product.
//
//go:embed web/*.html web/icon.svg web/css web/font web/js web/vendor
var webFS embed.FS

// mediaTypes fixes the types, which on some systems come from a file that lies.
var mediaTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	".woff2": "font/woff2", ".md": "text/plain; charset=utf-8", ".LICENSE": "text/plain; charset=utf-8",
}

// webFiles serves the page's files under /static/<hash>/, where the hash covers all
// of them: an answer never changes, so browsers keep it for good.
type webFiles struct {
	prefix    string
	files     map[string]webFile
	templates *template.Template
}

type webFile struct {
	kind  string
	plain []byte
	gzip  func() []byte // compressed when a browser first asks, so that a start does not wait for it; it returns nil where that saves too little
}

func loadWeb() (*webFiles, error) {
	w := &webFiles{files: map[string]webFile{}}
	sum := sha256.New()
	err := fs.WalkDir(webFS, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) == ".html" {
			return err
		}
		b, err := webFS.ReadFile(name)
		if err != nil {
			return err
		}
		sum.Write([]byte(name))
		sum.Write(b)
		w.files[strings.TrimPrefix(name, "web/")] = newWebFile(name, b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	w.prefix = "/static/" + hex.EncodeToString(sum.Sum(nil)[:6]) + "/"
	w.templates, err = template.ParseFS(webFS, "web/*.html")
	return w, err
}

func newWebFile(name string, b []byte) webFile {
	f := webFile{kind: mediaTypes[path.Ext(name)], plain: b, gzip: sync.OnceValue(func() []byte { return compress(b) })}
	if f.kind == "" {
		f.kind = "application/octet-stream"
	}
	return f
}

// compress returns nil where it would save less than a tenth.
func compress(b []byte) []byte {
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write(b) // memory takes everything
	_ = zw.Close()
	if z.Len() >= len(b)*9/10 {
		return nil
	}
	return z.Bytes()
}

func (web *webFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, web.prefix)
	f, found := web.files[name]
	if !ok || !found {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if z := f.gzip(); z != nil {
			h.Set("Content-Encoding", "gzip")
			body = z
		}
	}
	_, _ = w.Write(body) // the client has gone
}
