package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
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

// nearest gives ` (did you mean "x"?)` for the known word closest to a wrong
// one, or "" when none is close.
func nearest(word string, known []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(word, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
