package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"bramble/collector/backup"
	"bramble/collector/config/unit"
)

// problem is one thing that is wrong with a configuration.
type problem struct {
	key  string // with those of its blocks, such as "backups: keep"; "" for the file
	line int    // 0 where it is that of the key
	err  error
}

type problems []problem

func (p *problems) add(key string, err error) {
	if err != nil {
		*p = append(*p, problem{key: key, err: err})
	}
}

func (p *problems) addf(key, format string, args ...any) { p.add(key, fmt.Errorf(format, args...)) }

// Read returns the defaults with the settings of a YAML file. Paths in it are relative to the file. The error has every
// problem that a key has by itself, each in a line of its own with file and line.
func Read(file string) (Config, error) { return read(file, (*Config).checkKeys) }

// ReadToServe is Read for a collector that starts: keys must fit each other, too.
func ReadToServe(file string) (Config, error) {
	return read(file, func(c *Config) problems { return append(c.checkKeys(), c.checkTogether()...) })
}

func read(file string, check func(*Config) problems) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Default, fmt.Errorf("read config: %w", err)
	}
	return parse(file, text, check)
}

// parse reads the text of a file.
func parse(file string, text []byte, check func(*Config) problems) (Config, error) {
	c := Default
	if abs, err := filepath.Abs(file); err == nil {
		c.file = abs
	}
	doc, err := document(text)
	if err != nil {
		return c, fmt.Errorf("config %s%w", file, err)
	}
	if doc == nil {
		return c, nil // an empty file changes nothing
	}
	at := index(doc)
	if found := at.twice(); found != nil { // such a block is not decoded
		return c, at.report(file, found)
	}
	c.begin(at)
	found := at.empty()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var wrong *yaml.TypeError
	switch err := d.Decode(&c); {
	case errors.As(err, &wrong):
		for _, text := range wrong.Errors {
			found = append(found, at.understand(text))
		}
	case err != nil:
		return c, fmt.Errorf("config %s: %s", file, OneLine(err))
	}
	c.resolve(filepath.Dir(file))
	undecoded := slices.Clone(found)
	for _, p := range check(&c) {
		if !slices.ContainsFunc(undecoded, func(q problem) bool { return p.key == q.key || strings.HasPrefix(q.key, p.key+": ") }) { // it says why
			found = append(found, p)
		}
	}
	return c, at.report(file, found)
}

// document is the only YAML document of a file, nil for an empty one.
func document(text []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf(": %s", OneLine(err))
	}
	if err := d.Decode(&second); err == nil {
		return nil, fmt.Errorf(":%d: a second document begins: want one", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf(": %s", OneLine(err))
	}
	if top := doc.Content[0]; top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf(":%d: want `key: value` lines", top.Line)
	}
	return doc.Content[0], nil
}

// begin sets the defaults of blocks that are in the file.
func (c *Config) begin(at places) {
	if at.has("backups") {
		c.Backups.Every, c.Backups.Keep = unit.Duration(24*time.Hour), backup.DefaultKeep
	}
	if at.has("watchdog") {
		c.Watchdog.Every = unit.Duration(time.Minute)
	}
	if at.has("digest") {
		c.Digest.At = "08:00"
	}
}

// place is where a value stands.
type place struct {
	key       string
	of, value *yaml.Node
}

type places []place

// index lists the places of all keys, blocks before their keys.
func index(top *yaml.Node) (all places) {
	var walk func(n *yaml.Node, within string)
	walk = func(n *yaml.Node, within string) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			p := place{within + n.Content[i].Value, n.Content[i], n.Content[i+1]}
			all = append(all, p)
			if isBlock(p.key) {
				walk(p.value, p.key+": ")
			}
		}
	}
	walk(top, "")
	return all
}

func isBlock(key string) bool {
	for _, b := range blocks {
		if b.key == key {
			return true
		}
	}
	return false
}

func (all places) has(key string) bool {
	return slices.ContainsFunc(all, func(p place) bool { return p.key == key })
}

// empty finds keys without a value, which YAML takes for settings that are left as they are.
func (all places) empty() (found problems) {
	for _, p := range all {
		if p.value.Tag == "!!null" {
			found = append(found, problem{p.key, p.value.Line, errors.New("has no value")})
		}
	}
	return found
}

// twice finds keys that stand twice in their block.
func (all places) twice() (found problems) {
	seen := map[string]bool{}
	for _, p := range all {
		if seen[p.key] {
			found = append(found, problem{blockOf(p.key), p.of.Line, fmt.Errorf("key %q stands twice", p.of.Value)})
		}
		seen[p.key] = true
	}
	return found
}

// line is that of a key's value; of the block, where only that is in the file.
func (all places) line(key string) int {
	key, _, _ = strings.Cut(key, " and ")
	for key != "" {
		if i := slices.IndexFunc(all, func(p place) bool { return p.key == key }); i >= 0 {
			return all[i].value.Line
		}
		key = blockOf(key)
	}
	return 0
}

// keyAt names the key whose value stands at a line, in a column or as a text, where these are known. Where several do it is
// their block.
func (all places) keyAt(line, column int, text string) string {
	var keys []string
	for _, p := range all {
		if p.value.Line != line || column > 0 && p.value.Column != column || text != "" && p.value.Kind == yaml.ScalarNode && !strings.HasPrefix(p.value.Value, strings.TrimSuffix(text, "...")) {
			continue
		}
		if n := len(keys); n > 0 && keys[n-1] == blockOf(p.key) { // it begins with this key
			keys = keys[:n-1]
		}
		keys = append(keys, p.key)
	}
	if len(keys) == 0 {
		return ""
	}
	key := keys[0]
	for _, k := range keys[1:] {
		for key != "" && k != key && !strings.HasPrefix(k, key+": ") {
			key = blockOf(key)
		}
	}
	return key
}

// blockOf is the block that a key is in, "" for the file.
func blockOf(key string) string { return key[:max(strings.LastIndex(key, ": "), 0)] }

var (
	located   = regexp.MustCompile(`(?s)^line (\d+)(?: column (\d+))?: (.*)$`)
	unknown   = regexp.MustCompile(`^field (.*) not found in type (\S+)$`)
	otherKind = regexp.MustCompile("(?s)^cannot unmarshal (?:\\S+ `(.*)`|\\S+) into (.*)$")
)

// understand puts an error of the decoder into our words.
func (all places) understand(text string) problem {
	m := located.FindStringSubmatch(text)
	if m == nil {
		return problem{err: errors.New(text)}
	}
	line, _ := strconv.Atoi(m[1]) // digits
	column, _ := strconv.Atoi(m[2])
	said := m[3]
	p := problem{line: line, err: errors.New(said)}
	if m := unknown.FindStringSubmatch(said); m != nil {
		block := blocks[m[2]]
		p.key = block.key
		p.err = fmt.Errorf("unknown key %q; known are %s", m[1], strings.Join(block.keys, ", "))
		return p
	}
	m = otherKind.FindStringSubmatch(said)
	if m == nil {
		p.key = all.keyAt(line, column, "")
		return p
	}
	p.key = all.keyAt(line, 0, m[1])
	p.err = errors.New("want " + form(m[2]))
	if m[1] != "" {
		p.err = fmt.Errorf("%q: %w", m[1], p.err)
	}
	return p
}

// form is how a value of a type is written.
func form(goType string) string {
	switch goType {
	case "[]string":
		return "a list such as [a, b]"
	case "string":
		return "a text"
	case "int":
		return "a whole number"
	}
	return "`key: value` lines"
}

// block is a struct of the file.
type block struct {
	key  string
	keys []string
}

// blocks are all structs of the file, by the name of their type.
var blocks = func() map[string]block {
	all := map[string]block{}
	var walk func(t reflect.Type, key string)
	walk = func(t reflect.Type, key string) {
		b := block{key: key}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			b.keys = append(b.keys, name)
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, strings.TrimPrefix(key+": "+name, ": "))
			}
		}
		slices.Sort(b.keys)
		all[t.String()] = b
	}
	walk(reflect.TypeFor[Config](), "")
	return all
}()

// report joins the problems of a file in the order of their lines.
func (all places) report(file string, found problems) error {
	for i := range found {
		found[i].line = cmp.Or(found[i].line, all.line(found[i].key))
	}
	slices.SortStableFunc(found, func(x, y problem) int { return cmp.Or(cmp.Compare(x.line, y.line), cmp.Compare(x.key, y.key)) })
	var errs []error
	for _, p := range found {
		where := file
		if p.line > 0 {
			where += ":" + strconv.Itoa(p.line)
		}
		if p.key != "" {
			where += ": " + p.key
		}
		errs = append(errs, fmt.Errorf("config %s: %s", where, OneLine(p.err)))
	}
	return errors.Join(errs...)
}

// OneLine joins the lines of an error.
func OneLine(err error) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(err.Error(), "yaml: ")) {
		switch line = strings.TrimSpace(line); {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteByte(' ')
		case b.Len() > 0:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}
