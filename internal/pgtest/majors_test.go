package pgtest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

func TestTheVariableOfMajorsIsReadStrictly(t *testing.T) {
	for text, want := range map[string]error{
		"":                          nil,
		"15":                        errs.Invalid,
		"=x":                        errs.Invalid,
		"fifteen=/x":                errs.Invalid,
		"13=/nowhere/a,13=/nowhere": errs.Invalid,
		"13=/nowhere":               errs.NotFound,
	} {
		t.Setenv(pgtest.MajorsVariable, text)
		if _, err := pgtest.Installed(); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func TestTheHostsOwnInstallationIsListed(t *testing.T) {
	s := shared.Server(t)
	if !strings.HasPrefix(s.Bin, "/usr/lib/postgresql/") && !strings.HasPrefix(s.Bin, "/usr/pgsql-") {
		t.Skipf("the installation in %s is not in a usual place", s.Bin)
	}
	all, err := pgtest.Installed()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Bin == s.Bin && i.Major >= pgtest.Oldest && i.HasClient("pg_dump") && s.Client() == s.Bin {
			return
		}
	}
	t.Errorf("%s is not in %v", s.Bin, all)
}

func TestAServerBeginsWithACopyOfAnother(t *testing.T) {
	first := pgtest.Start(t, pgtest.Options{})
	first.Exec(t, "postgres", "CREATE TABLE kept AS SELECT 7 AS i")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := pgtest.Start(t, pgtest.Options{Data: first.Data})
	if got := second.Query(t, "postgres", "SELECT i FROM kept"); got[0][0] != "7" {
		t.Errorf("kept = %v", got)
	}
}
