package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/joho/godotenv"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Source says where the layers come from.
type Source struct {
	// Base is a YAML file below File, written by the program itself, which may be
	// missing. Empty means none.
	Base string
	// File is the YAML file. With Named it must exist, else it may be missing.
	File  string
	Named bool
	// DotEnv is the .env file, which may be missing. Empty means none.
	DotEnv string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags are the flags that were given.
	Flags []Flag
}

// Flag is a flag that was given on the command line.
type Flag struct {
	// Key that it sets.
	Key string
	// Name as people write it, for example "--state-dir".
	Name string
	// Value is a string or a []string.
	Value any
}

// Report tells how a configuration came to be.
type Report struct {
	// Warnings are one line each, for the log.
	Warnings []string

	fields  []field
	origins map[string]string
}

// Load fills dst, a pointer to a struct that holds the defaults, from the
// layers. The error has every problem there is, one line each; when dst has a
// Validate method, its problems too.
func Load(dst any, s Source) (*Report, error) {
	root := reflect.ValueOf(dst).Elem()
	l := &loader{source: s, root: root, values: koanf.New("."),
		report: &Report{fields: fieldsOf(root, ""), origins: map[string]string{}}}
	for _, step := range []func(){l.files, l.dotEnv, l.environment, l.flags, l.decode} {
		step()
	}
	if v, ok := dst.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			l.problems = append(l.problems, err)
		}
	}
	return l.report, errors.Join(l.problems...)
}

// loader is one run of Load.
type loader struct {
	source   Source
	root     reflect.Value
	values   *koanf.Koanf
	dotenv   map[string]string
	report   *Report
	problems []error
}

// problem notes something wrong.
func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// put adds one value on top of what is there.
func (l *loader) put(key string, value any, origin string) {
	if err := l.values.Load(confmap.Provider(map[string]any{key: value}, "."), nil); err != nil {
		l.problem("%s: %w", key, err)
		return
	}
	l.report.origins[key] = origin
}

// files reads the YAML files, the lower one first.
func (l *loader) files() {
	l.readFile(l.source.Base, false)
	l.readFile(l.source.File, l.source.Named)
}

// readFile reads one YAML file; unless it is required it may be missing.
func (l *loader) readFile(path string, required bool) {
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return
	}
	if errors.Is(err, fs.ErrNotExist) {
		l.problem("read config %s: no such file: %w", path, errs.NotFound)
		return
	} else if err != nil {
		l.problem("read config: %w", err)
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		l.problem("read config %s: %w: %w", path, err, errs.Invalid)
		return
	}
	if len(doc.Content) == 0 {
		return // an empty file says nothing
	}
	l.section(doc.Content[0], l.root.Type(), path, "")
}

// section takes the keys of a YAML mapping.
func (l *loader) section(n *yaml.Node, t reflect.Type, file, path string) {
	at := func(n *yaml.Node) string { return fmt.Sprintf("%s line %d", file, n.Line) }
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "log:" with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		l.problem("%s: must be a section of keys: %w", at(n), errs.Invalid)
		return
	}
	known := keysOf(t)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := strings.TrimPrefix(path+"."+name.Value, ".")
		kt, ok := known[name.Value]
		switch {
		case !ok:
			l.problem("%s: unknown key %q%s: %w", at(name), key, meant(name.Value, keyList(known)), errs.Invalid)
		case seen[name.Value]:
			l.problem("%s: key %q is there twice: %w", at(name), key, errs.Invalid)
		case isSection(kt):
			l.section(value, kt, file, key)
		default:
			var v any
			if err := value.Decode(&v); err != nil {
				l.problem("%s: %s: %w: %w", at(value), key, err, errs.Invalid)
				continue
			}
			if v != nil {
				l.put(key, v, at(value))
			}
		}
		seen[name.Value] = true
	}
}

// dotEnv reads the .env file. Its variables also serve references to secrets.
func (l *loader) dotEnv() {
	if l.source.DotEnv == "" {
		return
	}
	m, err := godotenv.Read(l.source.DotEnv)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		// The parser's words repeat the line, which may hold a secret.
		l.problem("read %s: not of the form NAME=VALUE, or not readable: %w", l.source.DotEnv, errs.Invalid)
		return
	}
	l.dotenv = m
	l.variables(m, l.source.DotEnv)
}

// environment reads the process's environment.
func (l *loader) environment() {
	m := map[string]string{}
	for _, e := range l.source.Environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	l.variables(m, "environment")
}

// variables takes the variables that are keys. One with our prefix that is no
// key is a warning and no error: another program of ours may own it.
func (l *loader) variables(m map[string]string, where string) {
	keys := map[string]string{}
	var known []string
	for _, f := range l.report.fields {
		keys[variable(f.key)] = f.key
		known = append(known, variable(f.key))
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if key, ok := keys[name]; ok {
			l.put(key, m[name], where+" "+name)
		} else if strings.HasPrefix(name, prefix) {
			l.report.Warnings = append(l.report.Warnings, fmt.Sprintf("%s: %s is no key of this program%s", where, name, meant(name, known)))
		}
	}
}

// flags takes the flags.
func (l *loader) flags() {
	for _, f := range l.source.Flags {
		if !slices.ContainsFunc(l.report.fields, func(k field) bool { return k.key == f.Key }) {
			panic("config: flag " + f.Name + " sets the unknown key " + f.Key)
		}
		l.put(f.Key, f.Value, "flag "+f.Name)
	}
}

// decode sets the fields.
func (l *loader) decode() {
	d := decoder{lookup: l.lookup}
	for _, f := range l.report.fields {
		origin, ok := l.report.origins[f.key]
		if !ok {
			continue
		}
		if err := d.set(f.value, l.values.Get(f.key)); err != nil {
			l.problem("%s (%s): %w", f.key, origin, err)
		}
	}
}

// lookup finds a variable for a secret: environment first, then .env.
func (l *loader) lookup(name string) (string, bool) {
	for _, e := range l.source.Environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	v, ok := l.dotenv[name]
	return v, ok
}

// Keys lists every key of a configuration struct, for documents and tests.
func Keys(config any) []string {
	var out []string
	for _, f := range fieldsOf(reflect.ValueOf(config).Elem(), "") {
		out = append(out, f.key)
	}
	return out
}
