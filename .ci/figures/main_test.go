package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// written makes a small tree from pairs of a path and a text.
func written(t *testing.T, files ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(root, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func parsed(t *testing.T, files ...string) *tree {
	t.Helper()
	all, err := readTree(written(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wants compares the offenders of a figure; each is given as its beginning.
func wants(t *testing.T, f figure, offenders ...string) {
	t.Helper()
	ok := len(f.offenders) == len(offenders)
	for i := range min(len(f.offenders), len(offenders)) {
		ok = ok && strings.HasPrefix(f.offenders[i], offenders[i])
	}
	if !ok {
		t.Errorf("%s (%s): offenders %q, want %q", f.name, f.value, f.offenders, offenders)
	}
}

func TestLargestPackage(t *testing.T) {
	files := []string{"big/a.go", "package big", "big/b.go", "package big", "big/b_test.go", "package big", "small/a.go", "package small"}
	wants(t, largestPackage(parsed(t, files...), 2))
	wants(t, largestPackage(parsed(t, append(files, "big/c.go", "package big")...), 2), "big:1: the package has 3 files, 2 at most")
	// Other people's code and tests' files do not count.
	wants(t, largestPackage(parsed(t, append(files, "big/testdata/c.go", "package big", "node_modules/x/a.go", "package x")...), 2))
}

func TestMostMethods(t *testing.T) {
	one := "package p\n\ntype T struct{}\n\nfunc (T) A()  {}\nfunc (t *T) B() {}\n"
	wants(t, mostMethods(parsed(t, "p/one.go", one, "p/one_test.go", "package p\n\nfunc (T) OfTest() {}\n"), 2))
	wants(t, mostMethods(parsed(t, "p/one.go", one, "p/two.go", "package p\n\nfunc (T) C() {}\n"), 2), "p/one.go:3: type T has 3 methods, 2 at most")
	split := "package p\n\ntype Whole struct {\n\t*T\n\tG[int]\n}\n\ntype G[X any] struct{}\n\nfunc (G[X]) C() {}\n"
	wants(t, mostMethods(parsed(t, "p/one.go", one, "p/two.go", split), 2), "p/two.go:3: type Whole has 3 methods")
	fields := "package p\n\ntype Whole struct {\n\tt *T\n\tg int\n}\n\nfunc (Whole) C() {}\n"
	wants(t, mostMethods(parsed(t, "p/one.go", one, "p/two.go", fields), 2))
}

func TestShortFiles(t *testing.T) {
	body := "\n\nfunc f() {\n}\n"
	wants(t, shortFiles(parsed(t,
		"p/doc.go", "package p"+body, "p/table.go", "package p\n\nvar table = []string{\"a\"}\n", "p/p_test.go", "package p"+body,
		"p/only_linux.go", "package p"+body, "p/other.go", "//go:build !linux\n\npackage p"+body, "p/long.go", "package p"+body+strings.Repeat("\n", 10),
	), 10))
	wants(t, shortFiles(parsed(t, "p/short.go", "package p"+body), 10), "p/short.go:1: 4 lines, 10 at least")
}

func TestPronouns(t *testing.T) {
	good := "// Package p holds a noun.\npackage p\n\nvar s = `// what stands in a string`\n"
	wants(t, pronouns(parsed(t, "p/p.go", good, "js/a.js", "// a noun\nconst s = '// what';\n"), 20))
	bad := good + "\n/*\nf does whatever it likes\n*/\nfunc f() {}\n"
	wants(t, pronouns(parsed(t, "p/p.go", bad), 20), "p/p.go:7: f does whatever it likes")
	wants(t, pronouns(parsed(t, "p/p.go", good, "js/a.js", "let a = 1;\nlet b = /[/'\"`]/.test(a); // What is tested\n"), 20), "js/a.js:2: // What is tested")
	wants(t, pronouns(parsed(t, "p/p.go", bad), 50)) // one line of five
}

func TestOldIdentifiers(t *testing.T) {
	words := []string{"mailroom", "folded"}
	wants(t, oldIdentifiers(parsed(t,
		"p/p.go", "package p\n\nimport \"strings\"\n\nvar unfolded = strings.EqualFold(\"the mailroom\", \"folded\") // folded\n",
		"js/a.js", "// folded\nconst text = 'mailroom' + \"folded\" + `folded`;\n"), words))
	wants(t, oldIdentifiers(parsed(t, "p/p.go", `package p

type mailroom struct{ isFolded bool }

func openMailroom(HTTPMailroom int) {
	foldedAt := 1
	for folded := range foldedAt {
		_ = folded
	}
}
`, "js/a.js", "const a = 1;\nfunction isFolded() { return a / 2; }\n"), words),
		"p/p.go:3: mailroom", "p/p.go:3: isFolded", "p/p.go:5: openMailroom", "p/p.go:5: HTTPMailroom", "p/p.go:6: foldedAt", "p/p.go:7: folded", "js/a.js:2: isFolded")
}

// withModule is a module whose package rules imports leaf, and leaf imports heavy.
func withModule(t *testing.T) (root string) {
	return written(t, "go.mod", "module example.org/tree\n\ngo 1.25\n",
		"rules/rules.go", "package rules\n\nimport _ \"example.org/tree/leaf\"\n", "leaf/leaf.go", "package leaf\n\nimport _ \"example.org/tree/heavy/lib\"\n",
		"heavy/lib/lib.go", "package lib\n", "rules/rules_test.go", "package rules\n\nimport \"testing\"\n\nfunc TestNothing(t *testing.T) {}\n")
}

func TestDependencies(t *testing.T) {
	f := func(limit int, forbidden string, offenders ...string) {
		t.Helper()
		got, err := dependencies(withModule(t), "rules", limit, []string{forbidden})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, got, offenders...)
	}
	f(3, "example.org/tree/heav")
	f(0, "example.org/other")
	f(2, "example.org/other", "rules:1: it needs 3 packages, 2 at most")
	f(3, "example.org/tree/heavy", "rules:1: it needs example.org/tree/heavy/lib, which example.org/tree/leaf imports")
}

func TestTestTime(t *testing.T) {
	root := withModule(t)
	for limit, offenders := range map[float64][]string{300: nil, 0: {"rules/rules.go:1: its tests take"}} {
		got, err := testTime(root, "rules", "rules.go", 1, limit)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, got, offenders...)
	}
	if _, err := testTime(root, "nowhere", "rules.go", 1, 1); err == nil {
		t.Error("the tests of no package pass")
	}
}

// TestShow: the table has all figures, the offenders follow, and one of them is an error.
func TestShow(t *testing.T) {
	var out strings.Builder
	good := figure{name: "files", value: "3 (p)", limit: "25"}
	if err := show([]figure{good}, &out); err != nil || !strings.Contains(out.String(), "ok") {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	err := show([]figure{good, {name: "methods", value: "61", limit: "60", offenders: []string{"p/p.go:3: type T"}}}, &out)
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); !errors.Is(err, errOver) || len(lines) != 5 ||
		!slices.Equal(strings.Fields(lines[2]), []string{"methods", "61", "60", "OVER"}) || lines[4] != "p/p.go:3: type T" {
		t.Errorf("%v\n%s", err, out.String())
	}
}
