// Package namedfile finds the files that a configuration names, in structs of any kind, so that paths are resolved and backed
// up by one rule and a new key is not forgotten. It reads no file.
package namedfile

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Kind is how a backup keeps a named file. It stands in a field's tag, such as `file:"secret"`.
type Kind string

// The kinds of paths.
const (
	// Secret files are kept encrypted. It is the kind of fields that have no tag of ours and whose YAML key says that
	// they name a file, as the keys of Alertmanager and its clients do: …_file, files, templates.
	Secret Kind = "secret"
	// Rules are kept as they are.
	Rules Kind = "rules"
	// Not is a path that a backup leaves out: the data directory, the backups and their key.
	Not Kind = "not in backups"
)

// Path is one path in a configuration.
type Path struct {
	Key   string // where it stands, such as receivers[0].webhook_configs[0].url_file
	Value string // as it is written; never empty
	Kind  Kind
}

// Each calls change for every path in the configuration that config points to and replaces the path with the result.
func Each(config any, change func(Path) string) { walk(reflect.ValueOf(config), "", "", change) }

// Files lists the paths of all kinds but Not.
func Files(config any) (all []Path) {
	Each(config, func(p Path) string {
		if p.Kind != Not {
			all = append(all, p)
		}
		return p.Value
	})
	return all
}

// In returns a change for [Each] that lets relative paths begin at a directory.
func In(dir string) func(Path) string {
	return func(p Path) string {
		if filepath.IsAbs(p.Value) {
			return p.Value
		}
		return filepath.Join(dir, p.Value)
	}
}

// walk looks below a value, and reports whether it has changed there. Strings are paths where a kind came down to them
// from their field.
func walk(v reflect.Value, key string, kind Kind, change func(Path) string) (changed bool) {
	switch v.Kind() {
	case reflect.Pointer:
		return walk(v.Elem(), key, kind, change)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			changed = walk(v.Field(i), join(key, name, f), kindOf(name, f), change) || changed
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			changed = walk(v.Index(i), key+"["+strconv.Itoa(i)+"]", kind, change) || changed
		}
	case reflect.Map:
		return walkMap(v, key, kind, change)
	case reflect.String:
		if kind == "" || v.String() == "" {
			return false
		}
		if to := change(Path{key, v.String(), kind}); to != v.String() {
			v.SetString(to)
			return true
		}
	}
	return changed
}

// walkMap changes copies of a map's values, which cannot be changed in place.
func walkMap(m reflect.Value, key string, kind Kind, change func(Path) string) (changed bool) {
	if m.Type().Key().Kind() != reflect.String {
		return false
	}
	byName := map[string]reflect.Value{}
	for _, k := range m.MapKeys() {
		byName[k.String()] = k
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		value := reflect.New(m.Type().Elem()).Elem()
		value.Set(m.MapIndex(byName[name]))
		if walk(value, key+"."+name, kind, change) {
			m.SetMapIndex(byName[name], value)
			changed = true
		}
	}
	return changed
}

// kindOf is the kind of paths that a field holds, "" for none.
func kindOf(name string, f reflect.StructField) Kind {
	if tag := f.Tag.Get("file"); tag != "" {
		return Kind(tag)
	}
	if strings.HasSuffix(name, "_file") || name == "files" || name == "templates" {
		return Secret
	}
	return ""
}

func join(key, name string, f reflect.StructField) string {
	if name == "" && f.Anonymous || strings.Contains(f.Tag.Get("yaml"), ",inline") {
		return key
	}
	if name == "" {
		name = f.Name
	}
	if key == "" {
		return name
	}
	return key + "." + name
}
