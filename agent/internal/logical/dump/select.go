package dump

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// selectDatabases picks the databases that include (all, when empty) asks for
// and exclude does not take away, the biggest first. Globs match names in
// display form: * any characters, ? one. A name asked for that does not exist,
// and a database that accepts no connections, are picked and marked failed. That
// nothing is picked is an error (errs.NotFound).
//
// PostgreSQL's own templates are taken only when named in full.
func selectDatabases(all []postgres.DatabaseInfo, include, exclude []string) ([]*database, error) {
	var picked []*database
	for _, info := range all {
		name := info.Name.Display()
		named := slices.Contains(include, name)
		own := info.Template && (name == "template0" || name == "template1")
		switch {
		case own && !named:
			continue
		case len(include) > 0 && !named && !matchAny(include, name):
			continue
		case matchAny(exclude, name):
			continue
		}
		d := newDatabase(info)
		if !info.AllowConnections {
			d.fail(postgres.WithHint(fmt.Errorf("database %s: accepts no connections: %w", name, errs.Conflict),
				"ALTER DATABASE "+info.Name.Quote()+" ALLOW_CONNECTIONS true; or exclude it"))
		}
		picked = append(picked, d)
	}
	for _, want := range slices.Compact(slices.Sorted(slices.Values(include))) {
		if strings.ContainsAny(want, "*?") || slices.ContainsFunc(all, func(i postgres.DatabaseInfo) bool { return i.Name.Display() == want }) {
			continue
		}
		d := newDatabase(postgres.DatabaseInfo{Name: pg.Name(want), Size: -1})
		d.fail(postgres.WithHint(fmt.Errorf("database %s: no such database: %w", want, errs.NotFound), "list the databases with: psql -l"))
		picked = append(picked, d)
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("no database matches %s: %w", wanted(include, exclude), errs.NotFound)
	}
	slices.SortStableFunc(picked, func(a, b *database) int { return int(min(1, max(-1, b.info.Size-a.info.Size))) })
	return picked, nil
}

func wanted(include, exclude []string) string {
	s := "*"
	if len(include) > 0 {
		s = strings.Join(include, ", ")
	}
	if len(exclude) > 0 {
		s += " without " + strings.Join(exclude, ", ")
	}
	return s
}

func matchAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool { return match(g, name) })
}

// match tells whether a glob matches a whole name. It needs no more than
// len(glob) × len(name) steps.
func match(glob, name string) bool {
	g, n := []rune(glob), []rune(name)
	i, j, star, retry := 0, 0, -1, 0
	for j < len(n) {
		switch {
		case i < len(g) && g[i] == '*':
			star, retry = i, j
			i++
		case i < len(g) && (g[i] == '?' || g[i] == n[j]):
			i++
			j++
		case star >= 0:
			retry++
			i, j = star+1, retry
		default:
			return false
		}
	}
	for i < len(g) && g[i] == '*' {
		i++
	}
	return i == len(g)
}

// byName orders databases as the manifest does.
func byName(all []*database) []*database {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b *database) int { return strings.Compare(string(a.info.Name), string(b.info.Name)) })
	return sorted
}
