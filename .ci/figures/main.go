// Figures measures the tree against the limits that keep it readable, prints a table, and names
// each offender with its file and line. It lies in a folder that ./... does not see, because it is
// a tool of the gate and no part of the product.
//
//	go run ./.ci/figures [-time]
//
// It exits with 1 where a limit is passed. -time also measures how long the tests of the rules take
// from a changed file.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// The limits, and the packages that they are about.
const (
	maxFiles       = 25   // files of a package, tests aside
	maxDeps        = 320  // packages that a rule's test compiles
	maxMethods     = 60   // methods of a type
	maxPronouns    = 1.5  // comment lines in a hundred that lean on a pronoun in place of a noun
	minLines       = 30   // lines of a file
	maxTestSeconds = 10.0 // of the rules' tests, from a changed file

	rulesDir      = "alerting/rules"
	rulesFile     = "engine.go"
	dashboardsDir = "dashboards"
	timedRuns     = 5
)

// engine is the embedded store: VictoriaMetrics' storage and all that opens it.
var engine = []string{
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage", "github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage",
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect", "github.com/VictoriaMetrics/VictoriaMetrics/app/vminsert",
}

// figure is one row of the table.
type figure struct {
	name, value, limit string
	offenders          []string // "file:line: why"; none where the figure is within its limit
}

func main() {
	timed := flag.Bool("time", false, "also measure the tests of the rules, from a changed file")
	flag.Parse()
	err := run(".", *timed, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

var errOver = errors.New("a limit is passed")

func run(root string, timed bool, out io.Writer) error {
	t, err := readTree(root)
	if err != nil {
		return err
	}
	heavy := append([]string{"github.com/prometheus/alertmanager", "modernc.org/sqlite"}, engine...)
	// dashboards parse matchers of maintenances with a package of Alertmanager's.
	shown := append([]string{"github.com/prometheus/alertmanager/notify", "github.com/prometheus/alertmanager/dispatch", "modernc.org/sqlite"}, engine...)
	all := []figure{
		largestPackage(t, maxFiles),
		mostMethods(t, maxMethods),
		shortFiles(t, minLines),
		pronouns(t, maxPronouns),
		oldIdentifiers(t, oldWords),
	}
	for _, of := range []struct {
		dir       string
		limit     int
		forbidden []string
	}{{rulesDir, maxDeps, heavy}, {dashboardsDir, 0, shown}} {
		f, err := dependencies(root, of.dir, of.limit, of.forbidden)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	if timed {
		f, err := testTime(root, rulesDir, rulesFile, timedRuns, maxTestSeconds)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	return show(all, out)
}

// show prints the table, and below it the offenders.
func show(all []figure, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tnow\tlimit\tok")
	var over []string
	for _, f := range all {
		ok := "ok"
		if len(f.offenders) > 0 {
			ok = "OVER"
			over = append(over, f.offenders...)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.name, f.value, f.limit, ok)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(over) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	for _, o := range over {
		fmt.Fprintln(out, o)
	}
	return errOver
}

// dependencies counts the packages that a package needs, itself included, and names those that it
// must not. A limit of 0 is none.
func dependencies(root, dir string, limit int, forbidden []string) (figure, error) {
	out, err := goCommand(root, "list", "-deps", "./"+dir)
	if err != nil {
		return figure{}, err
	}
	deps := strings.Fields(out)
	f := figure{name: "packages that ./" + dir + " needs", value: fmt.Sprint(len(deps)), limit: "none of Alertmanager's pipeline, SQLite, the engine"}
	if limit > 0 {
		f.limit = fmt.Sprintf("%d, none of Alertmanager, SQLite, the engine", limit)
		if len(deps) > limit {
			f.offenders = append(f.offenders, fmt.Sprintf("%s:1: it needs %d packages, %d at most", dir, len(deps), limit))
		}
	}
	for _, bad := range forbidden {
		i := slices.IndexFunc(deps, func(dep string) bool { return dep == bad || strings.HasPrefix(dep, bad+"/") })
		if i < 0 {
			continue
		}
		by, err := importer(root, dir, deps[i])
		if err != nil {
			return figure{}, err
		}
		f.offenders = append(f.offenders, fmt.Sprintf("%s:1: it needs %s, which %s imports", dir, deps[i], by))
	}
	return f, nil
}

// importer finds a package among those that dir needs that imports another one.
func importer(root, dir, path string) (string, error) {
	out, err := goCommand(root, "list", "-deps", "-json=ImportPath,Imports", "./"+dir)
	if err != nil {
		return "", err
	}
	for list := json.NewDecoder(strings.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := list.Decode(&p); err != nil {
			return "", fmt.Errorf("find the importer of %s: %w", path, err)
		}
		if slices.Contains(p.Imports, path) {
			return p.ImportPath, nil
		}
	}
}

// testTime is the median time of a package's tests after one of its files has changed, the first
// run aside, which may have to compile its imports. The tree stays as it is: the go command is
// given changed copies.
func testTime(root, dir, file string, runs int, limit float64) (figure, error) {
	temp, err := os.MkdirTemp("", "figures-")
	if err != nil {
		return figure{}, err
	}
	defer os.RemoveAll(temp)
	original, err := filepath.Abs(filepath.Join(root, dir, file))
	if err != nil {
		return figure{}, err
	}
	var seconds []float64
	for i := range runs + 1 {
		overlay, err := changedCopy(temp, original)
		if err != nil {
			return figure{}, err
		}
		begin := time.Now()
		if _, err := goCommand(root, "test", "-overlay", overlay, "./"+dir); err != nil {
			return figure{}, err
		}
		if i > 0 {
			seconds = append(seconds, time.Since(begin).Seconds())
		}
	}
	slices.Sort(seconds)
	median := seconds[len(seconds)/2]
	f := figure{name: "go test ./" + dir + " from a changed file, median", value: fmt.Sprintf("%.1f s", median), limit: fmt.Sprintf("%g s", limit)}
	if median > limit {
		f.offenders = append(f.offenders, fmt.Sprintf("%s:1: its tests take %.1f s from a changed file, %g s at most: %.1f", filepath.Join(dir, file), median, limit, seconds))
	}
	return f, nil
}

// changedCopy writes a copy of a file with one more variable, whose value differs each time, and an
// overlay that puts it in the file's place.
func changedCopy(temp, original string) (overlay string, err error) {
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	text = fmt.Appendf(text, "\nvar figuresChange = %q\n", time.Now().String())
	changed := filepath.Join(temp, filepath.Base(original))
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(temp, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

func goCommand(root string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	c := exec.Command("go", args...)
	c.Dir, c.Stdout, c.Stderr = root, &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	return out.String(), nil
}
