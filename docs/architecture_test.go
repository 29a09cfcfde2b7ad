// Package docs has no code: its tests compare the documents beside them with the tree.
package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestImportsAreAsTheTableSays compares the table of packages in architecture.md with the imports
// of the code that is built, tests aside. A cell of imports names packages in backquotes, by their
// path or by the end of it; its other words are free.
func TestImportsAreAsTheTableSays(t *testing.T) {
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range compare(rowsOf(string(text)), importsOf(t), isModule) {
		t.Error(problem)
	}
}

// row is one package of the table.
type row struct {
	line    int
	name    string
	imports []string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// rowsOf reads the table whose head begins with "package" and ends with "imports of ours".
func rowsOf(text string) (rows []row) {
	in := false
	for i, line := range strings.Split(text, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		switch {
		case len(cells) == 3 && strings.TrimSpace(cells[0]) == "package" && strings.TrimSpace(cells[2]) == "imports of ours":
			in = true
		case !strings.HasPrefix(line, "|"):
			in = false
		case in && strings.HasPrefix(strings.TrimSpace(cells[0]), "`"):
			r := row{line: i + 1, name: strings.Trim(cells[0], " `")}
			for _, name := range quoted.FindAllStringSubmatch(cells[len(cells)-1], -1) {
				r.imports = append(r.imports, name[1])
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// importsOf asks the go command for the packages of the module that have code beside their tests,
// and for their imports of the module's others; all by their path in the tree.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	lookAtSources(t)
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,GoFiles,Imports", "./...")
	list.Dir, list.Stderr = "..", os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "bramble/"
	all := map[string][]string{}
	for packages := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath       string
			GoFiles, Imports []string
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) == 0 {
			continue
		}
		ours := []string{}
		for _, name := range p.Imports {
			if rest, ok := strings.CutPrefix(name, module); ok {
				ours = append(ours, rest)
			}
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = ours
	}
}

// lookAtSources reads the directories of the tree: go test keeps the result of a test until
// something that it has read changes, and does not know the files that the go command reads.
func lookAtSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join("..", dir, "go.mod"))
	return err == nil
}

// compare returns one line for each difference between a table and the code.
func compare(rows []row, code map[string][]string, isModule func(dir string) bool) (problems []string) {
	say := func(r row, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("architecture.md:%d: row `%s`: ", r.line, r.name)+fmt.Sprintf(format, args...))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		imports, ok := code[r.name]
		switch {
		case seen[r.name]:
			say(r, "it is there twice")
			continue
		case !ok && isModule(r.name):
			continue
		case !ok:
			say(r, "there is no such package")
			continue
		}
		seen[r.name] = true
		var named []string
		for _, short := range r.imports {
			full, err := resolve(short, r.name, code)
			if err != nil {
				say(r, "%v", err)
				continue
			}
			named = append(named, full)
			if !slices.Contains(imports, full) {
				say(r, "superfluous: `%s`, which the code does not import", full)
			}
		}
		for _, full := range imports {
			if !slices.Contains(named, full) {
				say(r, "missing: `%s`, which the code imports", full)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !seen[name] {
			problems = append(problems, fmt.Sprintf("architecture.md: package `%s` has no row", name))
		}
	}
	return problems
}

// resolve finds the package that a row names: by its path, as a neighbour of the row's own package
// or below it, or as the only one whose path ends so.
func resolve(short, from string, code map[string][]string) (string, error) {
	for _, full := range []string{short, path.Join(from, short), path.Join(path.Dir(from), short)} {
		if _, ok := code[full]; ok {
			return full, nil
		}
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if strings.HasSuffix(name, "/"+short) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("`%s` is no package of ours", short)
	}
	return "", fmt.Errorf("`%s` may be any of %s", short, strings.Join(found, ", "))
}

// TestCompareNamesTheRow: each kind of difference is found on a small table.
func TestCompareNamesTheRow(t *testing.T) {
	code := map[string][]string{
		"a": {"a/leaf", "b"}, "a/leaf": nil, "b": {"b/leaf"}, "b/leaf": nil, "c/same": {"a/leaf"}, "d/same": nil, "new": nil,
	}
	rows := rowsOf("text\n" +
		"| package | owns | imports of ours |\n|---|---|---|\n" +
		"| `a` | all right: the nearest leaf | `leaf`, `b` (its values) |\n" +
		"| `a/leaf` | superfluous | `b` |\n" +
		"| `b` | missing | nothing |\n" +
		"| `b/leaf` | ambiguous | `same` |\n" +
		"| `c/same` | unknown | `a/leaf`, `nowhere` |\n" +
		"| `d/same` | | nothing |\n" +
		"| `d/same` | twice | nothing |\n" +
		"| `gone` | no package | nothing |\n" +
		"| `module` | a module of its own | nothing |\n" +
		"\n| `later` | another table | `x` |\n")
	want := []string{
		"architecture.md:5: row `a/leaf`: superfluous: `b`, which the code does not import",
		"architecture.md:6: row `b`: missing: `b/leaf`, which the code imports",
		"architecture.md:7: row `b/leaf`: `same` may be any of c/same, d/same",
		"architecture.md:8: row `c/same`: `nowhere` is no package of ours",
		"architecture.md:10: row `d/same`: it is there twice",
		"architecture.md:11: row `gone`: there is no such package",
		"architecture.md: package `new` has no row",
	}
	got := compare(rows, code, func(dir string) bool { return dir == "module" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
