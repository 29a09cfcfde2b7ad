package dashboards

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestPagesKeepThePolicy(t *testing.T) {
	_, web := start(t, parts{Auth: ofCustomers(), Own: leasehold(), Demo: &Demo{}})
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|\son[a-z]+=|\sstyle=|<style|javascript:`)
	foreign := regexp.MustCompile(`(?:src|href|action)="(?:https?:)?//`)
	for _, p := range []string{"/", "/board/r1-01", "/incidents", "/oncall", "/off", "/watch", "/login", "/board/none", "/nothing", "/own", "/own/board/r1-02", "/own/board/none"} {
		token := "viewer-token"
		if strings.HasPrefix(p, "/own") {
			token = "kelp-token"
		}
		resp, body := call{path: p, token: token}.do(t, web.URL)
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", p, csp)
		}
		if m := inline.FindString(body); m != "" {
			t.Errorf("%s: inline code %q", p, m)
		}
		if m := foreign.FindString(body); m != "" {
			t.Errorf("%s: foreign address %q", p, m)
		}
	}
}

func TestEveryFileOfAPageIsServed(t *testing.T) {
	s, web := start(t, parts{Auth: ofCustomers(), Own: leasehold()})
	link := regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`)
	imports := regexp.MustCompile(`(?m)^import (?:.* from )?"(\.\.?/[a-z/]+\.js)"`)
	seen := map[string]bool{}
	var visit func(string)
	visit = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		resp, body := call{path: file}.do(t, web.URL)
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %s", file, resp.StatusCode, resp.Header.Get("Cache-Control"))
		}
		for _, m := range imports.FindAllStringSubmatch(body, -1) {
			visit(path.Join(path.Dir(file), m[1]))
		}
	}
	for _, p := range []string{"/", "/board/r1-01", "/incidents", "/oncall", "/off", "/watch", "/login", "/nothing", "/own", "/own/board/r1-02"} {
		token := "viewer-token"
		if strings.HasPrefix(p, "/own") {
			token = "kelp-token"
		}
		_, body := call{path: p, token: token}.do(t, web.URL)
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			visit(m[1])
		}
	}
	for name := range s.web.files {
		if strings.HasSuffix(name, ".js") && !seen[s.web.prefix+name] {
			t.Errorf("%s is embedded but no page uses it", name)
		}
		if folder, _, _ := strings.Cut(name, "/"); !slices.Contains([]string{"css", "font", "icon.svg", "js", "vendor"}, folder) {
			t.Errorf("%s is embedded: the checks of the pages are no part of the product", name)
		}
	}
	if resp, _ := (call{path: "/static/0000/css/base.css"}).do(t, web.URL); resp.StatusCode != 404 {
		t.Errorf("other version: %d", resp.StatusCode)
	}
}

// operation is the description of a route.
type operation struct {
	Parameters []struct {
		Name, In string
		Required bool
		Example  any
	}
}

// query has the examples of the parameters that a request needs.
func (o operation) query() string {
	q := url.Values{}
	for _, p := range o.Parameters {
		switch v := p.Example.(type) {
		case float64:
			q.Set(p.Name, strconv.FormatFloat(v, 'f', 0, 64))
		case string:
			q.Set(p.Name, v)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// The description names exactly the JSON routes that answer.
func TestOpenAPIIsTrue(t *testing.T) {
	one := func(context.Context) ([]Incident, error) { return []Incident{{ID: "1"}}, nil }
	o := parts{Open: true, Demo: &Demo{}, Incidents: one, History: func(context.Context, HistoryQuery) ([]Span, error) { return []Span{}, nil }}
	o.Own = leasehold()
	o.Own.Tenancy = func(string, int64) (string, int64) { return "alder", 0 }
	_, web := start(t, o)
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	_, body := call{path: "/api/openapi.json"}.do(t, web.URL)
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for path, methods := range doc.Paths {
		for m := range methods {
			got = append(got, strings.ToUpper(m)+" "+path)
		}
		real := strings.NewReplacer("{name}", "r1-01", "{id}", "1").Replace(path)
		get, isGet := methods["get"]
		if !isGet {
			continue
		}
		real += get.query()
		if resp, b := (call{path: real}).do(t, web.URL); resp.StatusCode != 200 || !json.Valid([]byte(b)) {
			t.Errorf("%s: %d %s", real, resp.StatusCode, b)
		}
	}
	slices.Sort(got)
	if want := ownRoutes(t); !slices.Equal(got, want) {
		t.Errorf("described %v\nserved    %v", got, want)
	}
}

var routePattern = regexp.MustCompile(`mux\.Handle\("((?:GET|POST|DELETE) /api/[^v"][^"]*)"`)

func ownRoutes(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, m := range routePattern.FindAllStringSubmatch(serverSource, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

func TestUnknownRoutes(t *testing.T) {
	_, web := start(t, parts{Open: true})
	for _, p := range []string{"/api/nothing", "/api/v1/query", "/api/v2/alerts", "/metrics", "/api/demo"} {
		if resp, body := (call{path: p}).do(t, web.URL); resp.StatusCode != http.StatusNotFound || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s", p, resp.StatusCode, body)
		}
	}
	if resp, body := (call{path: "/board/none"}).do(t, web.URL); resp.StatusCode != 404 || !strings.Contains(body, "No such board") || strings.Contains(body, "retired") {
		t.Errorf("unknown board: %d", resp.StatusCode)
	}
}

func FuzzAcknowledgement(f *testing.F) {
	f.Add([]byte(`{"comment":"mine"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := decodeAcknowledgement(data); err == nil && len(a.Comment) > maxComment {
			t.Errorf("comment of %d bytes passed", len(a.Comment))
		}
	})
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "https://x", "/a?b=//c", "/\t/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		got := localPath(p)
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.HasPrefix(got, `/\`) {
			t.Errorf("localPath(%q) = %q leaves the server", p, got)
		}
	})
}
