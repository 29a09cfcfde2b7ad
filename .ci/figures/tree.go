package main

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tree is the source of a repository.
type tree struct {
	files []*source // Go's, by path
	js    []*script // JavaScript's, by path
}

// source is one Go file.
type source struct {
	path  string // from the root, with slashes
	set   *token.FileSet
	file  *ast.File
	lines int
}

func (s *source) test() bool              { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) line(pos token.Pos) int  { return s.set.Position(pos).Line }
func (s *source) at(pos token.Pos) string { return fmt.Sprintf("%s:%d", s.path, s.line(pos)) }
func (s *source) dir() string             { return path.Dir(s.path) }

// skipped are folders of other people's code.
var skipped = []string{"node_modules", "vendor", "testdata"}

// readTree parses the Go files and reads the scripts below a folder.
func readTree(root string) (*tree, error) {
	t := &tree{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (slices.Contains(skipped, d.Name()) || strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.read(name, filepath.ToSlash(rel))
	})
	return t, err
}

func (t *tree) read(name, rel string) error {
	ext := path.Ext(rel)
	if ext != ".go" && ext != ".js" {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if ext == ".js" {
		t.js = append(t.js, scan(rel, string(text)))
		return nil
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &source{rel, set, file, strings.Count(string(text), "\n")})
	return nil
}

// largestPackage counts the files of each package, tests aside.
func largestPackage(t *tree, limit int) figure {
	count := map[string]int{}
	for _, s := range t.files {
		if !s.test() {
			count[s.dir()]++
		}
	}
	var most string
	f := figure{name: "files of the largest package", limit: fmt.Sprint(limit)}
	for _, dir := range slices.Sorted(maps.Keys(count)) {
		if count[dir] > count[most] {
			most = dir
		}
		if count[dir] > limit {
			f.offenders = append(f.offenders, fmt.Sprintf("%s:1: the package has %d files, %d at most", dir, count[dir], limit))
		}
	}
	f.value = fmt.Sprintf("%d (%s)", count[most], most)
	return f
}

// typeOf is one type of a package, with its own methods and the types of the same package that it
// embeds.
type typeOf struct {
	at       string
	methods  int
	embedded []string
}

// mostMethods counts the methods of each type with those of the types of its package that it
// embeds: a type that was split by embedding is as large as before.
func mostMethods(t *tree, limit int) figure {
	packages := map[string]map[string]*typeOf{}
	for _, s := range t.files {
		if s.test() {
			continue
		}
		if packages[s.dir()] == nil {
			packages[s.dir()] = map[string]*typeOf{}
		}
		collect(s, packages[s.dir()])
	}
	most, name := 0, ""
	f := figure{name: "methods of the largest type", limit: fmt.Sprint(limit)}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		types := packages[dir]
		for _, of := range slices.Sorted(maps.Keys(types)) {
			n := methodsOf(types, of, map[string]bool{})
			if n > most {
				most, name = n, path.Base(dir)+"."+of
			}
			if n > limit {
				f.offenders = append(f.offenders, fmt.Sprintf("%s: type %s has %d methods, %d at most", types[of].at, of, n, limit))
			}
		}
	}
	f.value = fmt.Sprintf("%d (%s)", most, name)
	return f
}

func collect(s *source, types map[string]*typeOf) {
	get := func(name string) *typeOf {
		if types[name] == nil {
			types[name] = &typeOf{at: s.path + ":1"}
		}
		return types[name]
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil && len(d.Recv.List) == 1 {
				get(baseOf(d.Recv.List[0].Type)).methods++
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				own := get(ts.Name.Name)
				own.at = s.at(ts.Pos())
				if st, ok := ts.Type.(*ast.StructType); ok {
					for _, field := range st.Fields.List {
						if len(field.Names) == 0 {
							own.embedded = append(own.embedded, baseOf(field.Type))
						}
					}
				}
			}
		}
	}
}

// baseOf is the name of a type without its pointer and parameters; "" for a type of another
// package.
func baseOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return baseOf(e.X)
	case *ast.IndexExpr:
		return baseOf(e.X)
	case *ast.IndexListExpr:
		return baseOf(e.X)
	case *ast.ParenExpr:
		return baseOf(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func methodsOf(types map[string]*typeOf, name string, seen map[string]bool) int {
	of := types[name]
	if of == nil || seen[name] {
		return 0
	}
	seen[name] = true
	n := of.methods
	for _, e := range of.embedded {
		n += methodsOf(types, e, seen)
	}
	return n
}

// shortFiles finds files that are too short to tell a story. Package documentation, tables (no
// function) and tests may be short, and so may the file of one system, which cannot lie in another
// file.
func shortFiles(t *tree, limit int) figure {
	f := figure{name: "Go files that are too short", limit: fmt.Sprintf("0 below %d lines", limit)}
	for _, s := range t.files {
		if s.lines < limit && !s.test() && path.Base(s.path) != "doc.go" && hasFunction(s.file) && !ofOneSystem(s) {
			f.offenders = append(f.offenders, fmt.Sprintf("%s:1: %d lines, %d at least", s.path, s.lines, limit))
		}
	}
	f.value = fmt.Sprint(len(f.offenders))
	return f
}

func hasFunction(file *ast.File) bool {
	return slices.ContainsFunc(file.Decls, func(d ast.Decl) bool { _, ok := d.(*ast.FuncDecl); return ok })
}

// ofOneSystem reports whether a file has a build constraint, by its name or by a comment.
func ofOneSystem(s *source) bool {
	if strings.HasSuffix(s.path, "_linux.go") {
		return true
	}
	for _, group := range s.file.Comments {
		if group.Pos() > s.file.Package {
			return false
		}
		for _, c := range group.List {
			if constraint.IsGoBuild(c.Text) {
				return true
			}
		}
	}
	return false
}

var pronoun = regexp.MustCompile(`(?i)\b(what|whoever|whatever)\b`)

// pronouns counts the comment lines that lean on a pronoun in place of a noun. Offenders are named
// only where there are too many.
func pronouns(t *tree, limit float64) figure {
	total := 0
	var found []string
	look := func(at string, text string) {
		total++
		if pronoun.MatchString(text) {
			found = append(found, at+": "+strings.TrimSpace(text))
		}
	}
	for _, s := range t.files {
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				for i, text := range strings.Split(c.Text, "\n") {
					look(fmt.Sprintf("%s:%d", s.path, s.line(c.Pos())+i), text)
				}
			}
		}
	}
	for _, s := range t.js {
		for _, c := range s.comments {
			look(fmt.Sprintf("%s:%d", s.path, c.line), c.text)
		}
	}
	percent := 100 * float64(len(found)) / float64(max(total, 1))
	f := figure{
		name:  "comment lines with what, whoever, whatever",
		value: fmt.Sprintf("%.2f %% (%d of %d)", percent, len(found), total), limit: fmt.Sprintf("%g %%", limit),
	}
	if percent > limit {
		f.offenders = found
	}
	return f
}

// oldWords are words of this project's own that the field's words have replaced. Those that have an
// ordinary use as well, such as "part" or "room", are not among them.
var oldWords = []string{
	"letter", "letters", "mailroom", "flying", "landing", "needless", "former", "formers", "parted", "folded", "retell", "retold", "leftover", "leftovers",
	"escalating", "journaled", "farewell", "heed", "takeover",
}

// Between the words of an identifier in camel case: where capitals end before a word, and where a
// word ends.
var afterCapitals, afterWord = regexp.MustCompile(`([A-Z])([A-Z][a-z])`), regexp.MustCompile(`([a-z0-9])([A-Z])`)

// wordsOf splits an identifier at its capitals, digits and underscores, in small letters.
func wordsOf(name string) []string {
	name = afterWord.ReplaceAllString(afterCapitals.ReplaceAllString(name, "$1 $2"), "$1 $2")
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r < 'a' || r > 'z' })
}

// oldIdentifiers finds old words in the identifiers that the tree declares, as whole words.
func oldIdentifiers(t *tree, words []string) figure {
	f := figure{name: "old words in identifiers", limit: "0"}
	look := func(at func() string, name string) {
		for _, part := range wordsOf(name) {
			if slices.Contains(words, part) {
				f.offenders = append(f.offenders, fmt.Sprintf("%s: %s has the old word %q", at(), name, part))
			}
		}
	}
	for _, s := range t.files {
		for _, id := range declared(s.file) {
			look(func() string { return s.at(id.Pos()) }, id.Name)
		}
	}
	for _, s := range t.js {
		for _, id := range s.identifiers {
			look(func() string { return fmt.Sprintf("%s:%d", s.path, id.line) }, id.text)
		}
	}
	f.value = fmt.Sprint(len(f.offenders))
	return f
}

// declared are the identifiers that a file declares: functions, types, fields, parameters,
// constants and variables.
func declared(file *ast.File) (ids []*ast.Ident) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			ids = append(ids, n.Name)
		case *ast.TypeSpec:
			ids = append(ids, n.Name)
		case *ast.ValueSpec:
			ids = append(ids, n.Names...)
		case *ast.Field:
			ids = append(ids, n.Names...)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						ids = append(ids, id)
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					ids = append(ids, id)
				}
			}
		}
		return true
	})
	return ids
}
