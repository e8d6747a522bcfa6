package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// preload says of extensions whose library must be in shared_preload_libraries
// whether CREATE EXTENSION fails without (else the extension is made and does
// not work).
var preload = map[pg.Name]bool{
	"citus": true, "pg_cron": true, "pgaudit": true, "pglogical": true, "pg_qualstats": true, "timescaledb": true,
	"pg_net": false, "pg_squeeze": false, "pg_stat_kcache": false, "pg_stat_monitor": false,
	"pg_stat_statements": false, "pg_tle": false, "pg_wait_sampling": false,
}

// checkPreload judges shared_preload_libraries.
func (p *Plan) checkPreload(database, name pg.Name, object string) {
	if name == "pg_cron" {
		p.refuse(database, object, "it can be created only in the database that cron.database_name names, and a restore fills one of another name first",
			"export the database (tuskctl snapshot export) and load that there, or restore without the extension (--schema)")
	}
	fails, listed := preload[name]
	s := p.Target.Settings
	if !listed || slices.Contains(s.Preloaded, string(name)) || s.MaxConnections == 0 {
		return
	}
	if !s.PreloadKnown {
		p.unchecked(object, "it needs its library in shared_preload_libraries, which the role may not read", "GRANT pg_monitor TO "+p.Target.Role.Quote()+";")
		return
	}
	libraries := append(slices.Clone(s.Preloaded), string(name))
	if name == "citus" { // insists on being the first
		libraries = append([]string{string(name)}, s.Preloaded...)
	}
	// Each by itself: in one string they would be the name of one library.
	for i, l := range libraries {
		libraries[i] = pg.Name(l).Literal()
	}
	hint := "ALTER SYSTEM SET shared_preload_libraries = " + strings.Join(libraries, ", ") + "; then restart the server"
	if fails {
		p.refuse(database, object, "its library is not in shared_preload_libraries, without which it cannot be created", hint)
		return
	}
	p.warn(database, object, "its library is not in shared_preload_libraries: the extension may not be created, or does nothing", hint)
}

// compareVersions compares versions of extensions: texts of numbers and words,
// which have no order in general. ok is false where nothing can be said.
func compareVersions(a, b string) (order int, ok bool) {
	x, y := strings.FieldsFunc(a, separator), strings.FieldsFunc(b, separator)
	for i := range max(len(x), len(y)) {
		n, err := number(x, i)
		m, err2 := number(y, i)
		switch {
		case err != nil || err2 != nil:
			return 0, false
		case n != m:
			return map[bool]int{true: -1, false: 1}[n < m], true
		}
	}
	return 0, a == b
}

func separator(r rune) bool { return r == '.' || r == '-' || r == '_' }

// number gives the i-th part, 0 where there is none: 3.4 is 3.4.0.
func number(parts []string, i int) (int, error) {
	if i >= len(parts) {
		return 0, nil
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0, fmt.Errorf("part %q is no number: %w", parts[i], err)
	}
	return n, nil
}
