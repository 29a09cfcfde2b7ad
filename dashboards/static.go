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
	kind        string
	plain, gzip []byte
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
	f := webFile{kind: mediaTypes[path.Ext(name)], plain: b}
	if f.kind == "" {
		f.kind = "application/octet-stream"
	}
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write(b) // memory takes everything
	_ = zw.Close()
	if z.Len() < len(b)*9/10 {
		f.gzip = z.Bytes()
	}
	return f
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
	if f.gzip != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}
	_, _ = w.Write(body) // the client has gone
}
