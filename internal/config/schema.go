package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/tuskvault/tuskvault/internal/nearest"
)

// prefix of all environment variables.
const prefix = "TUSKVAULT_"

// field is one key of a configuration.
type field struct {
	// key is the dotted path, for example "log.level".
	key string
	// value is the addressable field of the program's struct.
	value reflect.Value
}

// fieldsOf lists the keys of a struct in the order of its fields. Nested
// structs are walked; lists and values are leaves.
func fieldsOf(v reflect.Value, path string) []field {
	var out []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("koanf")
		if tag == "" || tag == "-" {
			continue
		}
		key := tag
		if path != "" {
			key = path + "." + tag
		}
		if f := v.Field(i); isSection(f.Type()) {
			out = append(out, fieldsOf(f, key)...)
		} else {
			out = append(out, field{key, f})
		}
	}
	return out
}

// isSection tells whether a type is a section of keys and not a value.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshaler)
}

// keysOf lists the tags of a section's own level, with their types.
func keysOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("koanf"); tag != "" && tag != "-" {
			out[tag] = t.Field(i).Type
		}
	}
	return out
}

// variable gives the environment variable of a key.
func variable(key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// meant gives ` (did you mean "x"?)` for the known word closest to a wrong
// one, or "" when none is close.
func meant(word string, known []string) string {
	limit := max(2, len(word)/3)
	best := nearest.Names(known, 1, limit, func(k string) int { return nearest.Distance(word, k, limit) })
	if best == nil {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best[0])
}
