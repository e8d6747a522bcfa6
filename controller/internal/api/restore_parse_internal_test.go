package api

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestWishesThatContradictEachOtherAreRefused(t *testing.T) {
	const pre, data = tuskvaultv1.RestoreSection_RESTORE_SECTION_PRE_DATA, tuskvaultv1.RestoreSection_RESTORE_SECTION_DATA
	tables := []string{"t"}
	for name, c := range map[string]struct {
		request *tuskvaultv1.StartRestoreRequest
		field   string // "" for one that is taken
	}{
		"nothing special":            {&tuskvaultv1.StartRestoreRequest{}, ""},
		"a selection":                {&tuskvaultv1.StartRestoreRequest{Tables: tables, Schemas: []string{"s*"}}, ""},
		"beside":                     {&tuskvaultv1.StartRestoreRequest{Tables: tables, Live: true, LiveSchema: "x"}, ""},
		"in place":                   {&tuskvaultv1.StartRestoreRequest{Tables: tables, Live: true, Replace: true}, ""},
		"rows in place":              {&tuskvaultv1.StartRestoreRequest{Tables: tables, Live: true, Replace: true, Sections: []tuskvaultv1.RestoreSection{data}}, ""},
		"roles only":                 {&tuskvaultv1.StartRestoreRequest{Globals: true, GlobalsOnly: true, OverwritePasswords: true}, ""},
		"live without tables":        {&tuskvaultv1.StartRestoreRequest{Live: true}, "live"},
		"live with globals":          {&tuskvaultv1.StartRestoreRequest{Tables: tables, Live: true, Globals: true}, "live"},
		"a side schema without live": {&tuskvaultv1.StartRestoreRequest{Tables: tables, LiveSchema: "x"}, "live_schema"},
		"a long side schema":         {&tuskvaultv1.StartRestoreRequest{Tables: tables, Live: true, LiveSchema: strings.Repeat("x", 300)}, "live_schema"},
		"passwords without globals":  {&tuskvaultv1.StartRestoreRequest{OverwritePasswords: true}, "globals"},
		"roles only of a database":   {&tuskvaultv1.StartRestoreRequest{Globals: true, GlobalsOnly: true, Tables: tables}, "globals_only"},
		"some tables replace all":    {&tuskvaultv1.StartRestoreRequest{Tables: tables, Replace: true}, "replace"},
		"some sections replace all":  {&tuskvaultv1.StartRestoreRequest{Sections: []tuskvaultv1.RestoreSection{pre}, Replace: true}, "sections"},
		"rows without tables":        {&tuskvaultv1.StartRestoreRequest{Sections: []tuskvaultv1.RestoreSection{data}}, "sections"},
		"no section":                 {&tuskvaultv1.StartRestoreRequest{Sections: []tuskvaultv1.RestoreSection{0}}, "sections"},
		"an empty pattern":           {&tuskvaultv1.StartRestoreRequest{Tables: []string{""}}, "tables"},
		"a long pattern":             {&tuskvaultv1.StartRestoreRequest{Schemas: []string{strings.Repeat("x", 2000)}}, "schemas"},
		"a role for nobody":          {&tuskvaultv1.StartRestoreRequest{RoleMap: []*tuskvaultv1.NameMapping{{Source: "a"}}}, "role_map"},
		"a role mapped twice":        {&tuskvaultv1.StartRestoreRequest{RoleMap: []*tuskvaultv1.NameMapping{{Source: "a", Target: "b"}, {Source: "a", Target: "c"}}}, "role_map"},
		"the default tablespace":     {&tuskvaultv1.StartRestoreRequest{TablespaceMap: []*tuskvaultv1.NameMapping{{Source: "a"}}}, ""},
	} {
		_, err := parseRestore(c.request)
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.field != "" && (!errors.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "field "+c.field+":")):
			t.Errorf("%s: %v", name, err)
		}
	}
	spec, err := parseRestore(&tuskvaultv1.StartRestoreRequest{Tables: tables, Sections: []tuskvaultv1.RestoreSection{pre, data, pre}, RoleMap: []*tuskvaultv1.NameMapping{{Source: "a", Target: "b"}}})
	if err != nil || len(spec.Sections) != 2 || spec.Sections[1] != catalog.SectionData || spec.Roles[0] != (catalog.NameMapping{Source: "a", Target: "b"}) {
		t.Errorf("%+v %v", spec, err)
	}
}
