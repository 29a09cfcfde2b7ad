package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceName matches the files that a licence wants to travel with a binary.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)|\.licen[cs]e$`)

// listing is the format in which `go list` prints each linked package: module, version, the
// module's folder, the package's folder, embedded files.
const listing = `{{with .Module}}{{.Path}}{{"\t"}}{{.Version}}{{"\t"}}{{.Dir}}{{end}}{{"\t"}}{{.Dir}}{{range .EmbedFiles}}{{"\t"}}{{.}}{{end}}`

// collectLicences writes the licences of all that the program links, each text once.
func (b *built) collectLicences(ctx context.Context) error {
	out, err := b.run(ctx, "list", "-deps", "-f", listing, "./"+b.product.command)
	if err != nil {
		return err
	}
	root, err := b.run(ctx, "env", "GOROOT")
	if err != nil {
		return err
	}
	texts := licenceTexts{}
	if err := texts.add("Go", filepath.Join(strings.TrimSpace(string(root)), "LICENSE")); err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if err := texts.addPackage(strings.Split(strings.TrimSuffix(line, "\n"), "\t")); err != nil {
			return err
		}
	}
	return os.WriteFile(b.licences(), texts.print(b.product.command), 0o644)
}

// licenceTexts maps each text to those that it covers.
type licenceTexts map[string]map[string]bool

func (t licenceTexts) add(owner, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read licence: %w", err)
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n"))
	if t[text] == nil {
		t[text] = map[string]bool{}
	}
	t[text][owner] = true
	return nil
}

// addPackage adds the licence files beside a package and above it in its module, and in our own
// module the embedded files with their licences.
func (t licenceTexts) addPackage(fields []string) error {
	if len(fields) < 4 || fields[0] == "" { // of the standard library
		return nil
	}
	owner, module, dir := fields[0], fields[2], fields[3]
	if fields[1] == "" {
		return t.addEmbedded(dir, fields[4:])
	}
	owner += " " + fields[1]
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() && licenceName.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
				if err := t.add(owner, filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		if dir == module || dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func (t licenceTexts) addEmbedded(dir string, files []string) error {
	for _, f := range files {
		if name := filepath.Base(f); licenceName.MatchString(name) {
			if err := t.add(name, filepath.Join(dir, f)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t licenceTexts) print(program string) []byte {
	type group struct{ owners, text string }
	var groups []group
	for text, owners := range t {
		groups = append(groups, group{owners: strings.Join(slices.Sorted(maps.Keys(owners)), "\n"), text: text})
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Or(cmp.Compare(a.owners, b.owners), cmp.Compare(a.text, b.text)) })
	var b bytes.Buffer
	fmt.Fprintf(&b, "Licences and notices of what %s links.\n", program)
	for _, g := range groups {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), g.owners, g.text)
	}
	return b.Bytes()
}
