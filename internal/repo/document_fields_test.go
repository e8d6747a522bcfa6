package repo_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/repo"
)

// fieldsOf collects the JSON names of all fields that a type reaches.
func fieldsOf(t reflect.Type, seen map[reflect.Type]bool, names map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		fieldsOf(t.Elem(), seen, names)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			names[name] = true
			fieldsOf(t.Field(i).Type, seen, names)
		}
	default:
	}
}

// TestTheDocumentNamesEveryFieldOfTheContent: a reader must be possible from the
// document alone.
func TestTheDocumentNamesEveryFieldOfTheContent(t *testing.T) {
	text, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Content\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("docs/FORMAT.md has no section Content")
	}
	names, seen := map[string]bool{}, map[reflect.Type]bool{}
	for _, v := range []any{repo.Content{}, repo.RoleFacts{}, repo.MembershipFacts{}, repo.SettingFacts{}, repo.TablespaceFacts{}, repo.ParameterFacts{},
		repo.LargeObjectFacts{}, repo.SizeFacts{}, repo.CollationFacts{}, repo.ACLItem{}} {
		fieldsOf(reflect.TypeOf(v), seen, names)
	}
	if len(names) < 80 {
		t.Errorf("only %d fields are looked at", len(names))
	}
	for name := range names {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("the section Content of docs/FORMAT.md does not name the field %q", name)
		}
	}
}
