package dump_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/logical/dump"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// got lists the databases of a snapshot with their states.
func got(s *dump.Snapshot) string {
	var all []string
	for _, d := range s.Content.Logical.Databases {
		all = append(all, string(d.Name)+" "+string(d.State))
	}
	return strings.Join(all, ", ")
}

func TestDatabasesAreChosenByGlobs(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	s.Exec(t, "postgres", "CREATE DATABASE shop_eu", "CREATE DATABASE shop_us", "CREATE DATABASE wiki")
	for name, tc := range map[string]struct {
		include, exclude []string
		want             string
	}{
		"all":              {nil, nil, "postgres complete, shop_eu complete, shop_us complete, wiki complete"},
		"one by its name":  {[]string{"wiki"}, nil, "wiki complete"},
		"by a glob":        {[]string{"shop_*"}, nil, "shop_eu complete, shop_us complete"},
		"all but some":     {nil, []string{"shop_?u", "postgres"}, "shop_us complete, wiki complete"},
		"a template named": {[]string{"template1"}, nil, "template1 complete"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(small)
			o := options(s, m, tc.include...)
			o.Request.Exclude = tc.exclude
			if have := got(mustRun(t, o)); have != tc.want {
				t.Errorf("got %s, want %s", have, tc.want)
			}
		})
	}
	t.Run("nothing matches", func(t *testing.T) {
		o := options(s, newMemory(small), "nothing_*")
		snap, err := dump.Run(t.Context(), o)
		if !errors.Is(err, errs.NotFound) || snap != nil || !strings.Contains(err.Error(), "nothing_*") {
			t.Errorf("%v, %v", snap, err)
		}
	})
	t.Run("a name that does not exist fails and the others go on", func(t *testing.T) {
		snap, err := dump.Run(t.Context(), options(s, newMemory(small), "wiki", "gone"))
		if err != nil {
			t.Fatal(err)
		}
		if snap.Complete || got(snap) != "gone failed, wiki complete" || !errors.Is(snap.Err, errs.NotFound) || !strings.Contains(snap.Err.Error(), "gone: no such database") {
			t.Errorf("%s: %v", got(snap), snap.Err)
		}
		if err := snap.Content.Validate(snap.References); err != nil {
			t.Error(err)
		}
	})
	t.Run("a database that accepts no connections is told", func(t *testing.T) {
		s.Exec(t, "postgres", "ALTER DATABASE wiki ALLOW_CONNECTIONS false")
		defer s.Exec(t, "postgres", "ALTER DATABASE wiki ALLOW_CONNECTIONS true")
		snap, err := dump.Run(t.Context(), options(s, newMemory(small)))
		if err != nil || snap.Complete || !strings.Contains(got(snap), "wiki failed") {
			t.Fatalf("%v %v", snap, err)
		}
		i := slices.IndexFunc(snap.Problems, func(p repo.Problem) bool { return p.Database == "wiki" })
		if i < 0 || !strings.Contains(snap.Problems[i].Hint, "ALLOW_CONNECTIONS") {
			t.Errorf("problems: %+v", snap.Problems)
		}
	})
}
