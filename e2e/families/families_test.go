package families_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/families"
)

func TestAFileIsReadStrictly(t *testing.T) {
	for name, text := range map[string]string{
		"no title":          "SELECT 1;\n",
		"unknown directive": "-- t\n-- @chek x\nSELECT 1\n",
		"no check":          "-- t\n\nSELECT 1;\n",
		"no query":          "-- t\n-- @check x\n-- @gives\n-- 1\n",
		"answer alone":      "-- t\n-- @gives\n-- 1\n",
		"no version":        "-- t\n-- @since new\n-- @check x\nSELECT 1\n",
	} {
		if _, err := families.Parse("x", text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDirectivesAndParagraphsAreToldApart(t *testing.T) {
	f, err := families.Parse("x", "-- title\n-- @since 14\n-- @differs t why\n\nCREATE a;\nCREATE b;\n\nCREATE c;\n\n-- @setup 17+\nCREATE d;\n\n-- @check 15+ what\nSELECT 1,\n  2\n-- @gives\n-- 1 | 2\n\n-- @check fails\nSELECT 1/0\n-- @fails 22012\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &families.Family{
		Name: "x", Title: "title", Since: 14, Differs: []string{"t"},
		Setup: []families.Query{{SQL: "CREATE a;\nCREATE b;"}, {SQL: "CREATE c;"}, {Since: 17, SQL: "CREATE d;"}},
		Checks: []families.Check{{Query: families.Query{Since: 15, SQL: "SELECT 1,\n  2"}, What: "what", Gives: []string{"1 | 2"}},
			{Query: families.Query{SQL: "SELECT 1/0"}, What: "fails", Fails: "22012"}},
	}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
}

func TestEveryFileIsReadable(t *testing.T) {
	all, err := families.All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 40 {
		t.Errorf("%d families", len(all))
	}
}

func TestOnlyWhatMayDifferIsNormalized(t *testing.T) {
	f := &families.Family{Reordered: []string{"public.t"}}
	const a = "\\restrict x\n-- Dumped from database version 13\nCREATE TABLE public.t (\n    a int,\n    b int\n)\nINHERITS (p);\nCREATE TABLE public.u (\n    a int,\n    b int\n);\n"
	b := strings.NewReplacer("\\restrict x", "\\restrict y", "version 13", "version 15", "    a int,\n    b int\n)\nINH", "    b int,\n    a int\n)\nINH").Replace(a)
	if d := cmp.Diff(f.Normalize(a, false), f.Normalize(b, false)); d != "" {
		t.Error(d)
	}
	if c := strings.Replace(a, "b int\n);", "b bigint\n);", 1); f.Normalize(a, true) == f.Normalize(c, true) {
		t.Error("another type went unnoticed")
	}
}
