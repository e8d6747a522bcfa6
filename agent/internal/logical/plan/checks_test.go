package plan_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// known is target() with everything that checks look at, and nothing wrong.
func known() *plan.Target {
	t := target()
	t.Settings = plan.Settings{MaxConnections: 100, SuperuserReserved: 3, LocksPerTransaction: 64, OtherProcesses: 22, MaxWAL: 1 << 30, MaxSlotWAL: -1, PreloadKnown: true, RoleLimit: -1}
	t.Traffic = plan.Traffic{Sessions: 4}
	data := plan.Space{Path: "/data", Space: host.Space{Device: 1, Free: 1 << 40}}
	t.Disk = plan.Disk{Spaces: map[pg.Name]plan.Space{"pg_default": data}, WAL: data}
	t.Texts = plan.Texts{Read: true, ICU: true, Languages: map[string]bool{"de": true}, Locales: map[pg.Name]plan.Locale{},
		Versions: map[plan.CollationKey]string{{Provider: "libc", Locale: "de_DE.utf8"}: "2.36", {Provider: "icu", Locale: "und"}: "153.120"}, System: map[pg.Name]bool{}}
	t.Versions = map[pg.Name][]plan.ExtensionVersion{"hstore": {{Version: "1.7", Trusted: true}, {Version: "1.8", Trusted: true}}}
	t.Directories = map[string]string{}
	return t
}

// caseOf is what one case changes.
type caseOf struct {
	content *repo.Content
	app     *repo.Database
	target  *plan.Target
	needs   *plan.Needs
	request *job.Restore
}

// props sets fields of the database's row of pg_database.
func (c caseOf) props(row string) { c.app.Properties = json.RawMessage(row) }

func (c caseOf) extension(name pg.Name, version string) {
	c.app.Extensions = append(c.app.Extensions, repo.ExtensionFacts{Name: name, Version: version})
	c.needs.Extensions[name] = plan.Need{By: "EXTENSION " + string(name), Essential: true}
}

func TestWhatMayGoWrongIsSaidInAdvanceWithTheFix(t *testing.T) {
	const gib = int64(1) << 30
	ordinary := repo.SizeFacts{Bytes: 10 * gib, Indexes: 3 * gib}
	collation := repo.CollationFacts{Provider: "libc", Locale: "de_DE.utf8", Deterministic: true, Version: "2.28", Uses: []repo.CollationUse{
		{Kind: "partition", Schema: "s", Name: "log"}, {Kind: "check", Schema: "s", Name: "below_z", Table: "t"}, {Kind: "unique", Schema: "s", Name: "u"}, {Kind: "index", Schema: "s", Name: "i"}}, More: 7}
	for name, c := range map[string]struct {
		change func(c caseOf)
		// want is one line of the plan and its hint, or a part of them; "" wants a plan
		// without refusals, warnings and what is not checked.
		want, hint string
	}{
		"nothing is wrong": {func(caseOf) {}, "", ""},

		"a server with holes":       {func(c caseOf) { c.target.Version = 150017 }, "warning: server: version 15.17 has known security holes, which 15.18 mends", "update it to 15.18"},
		"a major that nobody knows": {func(c caseOf) { c.target.Version = 250000 }, "", ""},
		"a subscription in newer words": {func(c caseOf) {
			c.app.Archive, c.needs.Subscriptions = &repo.Archive{Tool: 180004}, []pg.Name{"sub"}
		}, "warning: database app: subscription sub: pg_dump 18.4 wrote it in words that version 15 may not know", "restore to version 18"},
		"an event trigger, and no superuser": {func(c caseOf) { c.target.Superuser, c.needs.EventTriggers = false, []pg.Name{"watch"} },
			"warning: database app: event trigger watch: only a superuser", "SUPERUSER"},
		"read-only by default": {func(c caseOf) { c.target.Settings.ReadOnly = true }, "warning: default_transaction_read_only: ", "another instance"},

		"an older extension in the snapshot": {func(c caseOf) { c.extension("hstore", "1.7") }, "warning: database app: extension hstore: version 1.7 in the snapshot, 1.8 on the server", "release notes"},
		"a newer extension than there is": {func(c caseOf) { c.extension("hstore", "1.10") },
			"warning: database app: extension hstore: version 1.10 in the snapshot, 1.8 on the server, which has none that is as new", "install a package with extension hstore 1.10"},
		"a newer extension than the default": {func(c caseOf) { c.extension("hstore", "1.8"); c.target.Extensions["hstore"] = "1.7" },
			"warning: database app: extension hstore: version 1.8 in the snapshot, 1.7 on the server: an older one is the server's default", "default_version = '1.8' in hstore.control"},
		"a version without order": {func(c caseOf) { c.extension("hstore", "1.8dev") }, "warning: database app: extension hstore: version 1.8dev in the snapshot", "release notes"},
		"the same version":        {func(c caseOf) { c.extension("hstore", "1.8") }, "", ""},
		"an extension for superusers": {func(c caseOf) {
			c.target.Superuser = false
			c.target.Extensions["file_fdw"], c.target.Versions["file_fdw"] = "1.0", []plan.ExtensionVersion{{Version: "1.0", Superuser: true}}
			c.extension("file_fdw", "1.0")
		}, "refused: database app: extension file_fdw: only a superuser can create it", `ALTER ROLE "postgres" SUPERUSER;`},
		"a library that must be preloaded": {func(c caseOf) {
			c.target.Extensions["timescaledb"], c.target.Settings.Preloaded = "2.1", []string{"auto_explain"}
			c.extension("timescaledb", "2.1")
		}, "refused: database app: extension timescaledb: its library is not in shared_preload_libraries", "ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'timescaledb'; then restart the server"},
		"a library that is preloaded": {func(c caseOf) {
			c.target.Extensions["citus"], c.target.Settings.Preloaded = "12.1", []string{"citus", "x"}
			c.extension("citus", "12.1")
		}, "", ""},
		"a library that should be preloaded": {func(c caseOf) {
			c.target.Extensions["pg_stat_statements"] = "1.10"
			c.extension("pg_stat_statements", "1.10")
		},
			"warning: database app: extension pg_stat_statements: its library is not in shared_preload_libraries", "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'; then restart"},
		"libraries that may not be read": {func(c caseOf) {
			c.target.Extensions["citus"], c.target.Settings.PreloadKnown = "12.1", false
			c.extension("citus", "12.1")
		}, "not checked: extension citus: it needs its library", "GRANT pg_monitor"},
		"an extension of one database only": {func(c caseOf) {
			c.target.Extensions["pg_cron"], c.target.Settings.Preloaded = "1.6", []string{"pg_cron"}
			c.extension("pg_cron", "1.6")
		}, "refused: database app: extension pg_cron: it can be created only in the database that cron.database_name names", "snapshot export"},

		"a locale that is missing": {func(c caseOf) {
			c.props(`{"owner": "ann", "datcollate": "de_DE.UTF-8", "datctype": "de_DE.UTF-8"}`)
			c.target.Texts.Locales["de_DE.UTF-8"] = plan.Locale{}
		}, "refused: database app: locale de_DE.UTF-8: the server's host does not have it; needed by the database", "localedef -i de_DE -f UTF-8 de_DE.UTF-8 (Debian: locale-gen de_DE.UTF-8; Red Hat: dnf install glibc-langpack-de)"},
		"a locale of another encoding": {func(c caseOf) {
			c.props(`{"owner": "ann", "datcollate": "de_DE", "datctype": "C"}`)
			c.target.Texts.Locales["de_DE"] = plan.Locale{Exists: true, Encodings: []string{"LATIN1"}}
		}, "refused: database app: locale de_DE: it is for encoding LATIN1 on the server's host, the database is UTF8", "de_DE.UTF8"},
		"a locale of this encoding": {func(c caseOf) {
			c.props(`{"owner": "ann", "datcollate": "de_DE", "datctype": "C"}`)
			c.target.Texts.Locales["de_DE"] = plan.Locale{Exists: true, Encodings: []string{"UTF8"}}
		}, "", ""},
		"a collation's locale that is missing": {func(c caseOf) {
			c.needs.Collations = []plan.CollationNeed{{By: "COLLATION s.german", Provider: "libc", Locales: []pg.Name{"de_DE.utf8"}}}
			c.target.Texts.Locales["de_DE.utf8"] = plan.Locale{}
		}, "refused: database app: locale de_DE.utf8: the server's host does not have it; needed by COLLATION s.german", "locale-gen de_DE.utf8"},
		"a server without ICU": {func(c caseOf) {
			c.props(`{"owner": "ann", "datlocprovider": "i", "datlocale": "de"}`)
			c.target.Texts.ICU = false
		}, "refused: database app: locale provider icu: the server was built without it", "with ICU"},
		"an ICU database before there were any": {func(c caseOf) {
			c.props(`{"owner": "ann", "datlocprovider": "i", "datlocale": "de"}`)
			c.target.Version, c.content.Instance.Version = 140023, 140023
		}, "refused: database app: locale provider icu: servers have it since version 15", "version 15 or later"},
		"a builtin collation before there were any": {func(c caseOf) {
			c.needs.Collations = []plan.CollationNeed{{By: "COLLATION s.b", Provider: "builtin", Locales: []pg.Name{"C.UTF-8"}}}
		}, "refused: database app: locale provider builtin: servers have it since version 17; needed by COLLATION s.b", "version 17 or later"},
		"a language that ICU does not know": {func(c caseOf) {
			c.props(`{"owner": "ann", "datlocprovider": "i", "datlocale": "xx-Latn"}`)
			c.target.Texts.Languages["xx"] = false
		}, "warning: database app: locale xx-Latn: ICU on the server does not know language xx", "newer ICU"},

		"another version of a collation": {func(c caseOf) { c.app.Collations = []repo.CollationFacts{collation} },
			"warning: database app: default collation de_DE.utf8: libc had version 2.28 at the backup and has 2.36 here: texts may come in another order; " +
				"rows may belong to other partitions, or to none: s.log; rows may violate constraints that compare texts: s.t below_z; " +
				"indexes are built anew and will be right: s.u, s.i, 7 more", "restore where libc has version 2.28"},
		"another version of a collation where texts may be equal": {func(c caseOf) {
			c.app.Collations = []repo.CollationFacts{{Schema: "s", Name: "loose", Provider: "icu", Locale: "und", Version: "153.14", Uses: []repo.CollationUse{{Kind: "unique", Schema: "s", Name: "u"}}}}
		}, "warning: database app: collation s.loose: icu had version 153.14 at the backup and has 153.120 here: texts may come in another order; " +
			"texts that differed may be equal, and unique indexes fail: s.u", "icu has version 153.14"},
		"the same version of a collation": {func(c caseOf) {
			same := collation
			same.Version = "2.36"
			c.app.Collations = []repo.CollationFacts{same}
		}, "", ""},
		"a collation without a version": {func(c caseOf) {
			c.app.Collations = []repo.CollationFacts{collation}
			c.target.Texts.Versions = nil
		}, "not checked: database app: the server does not tell the versions of: default collation de_DE.utf8", ""},
		"a system collation that is missing": {func(c caseOf) {
			c.app.Collations = []repo.CollationFacts{{Schema: "pg_catalog", Name: "fr_FR.utf8", Provider: "libc", Locale: "fr_FR.utf8", Version: "2.28", Uses: []repo.CollationUse{{Kind: "index", Schema: "s", Name: "i"}}}}
		}, "refused: database app: collation pg_catalog.fr_FR.utf8: the server does not have it; needed by s.i", "pg_import_system_collations"},

		"a disk that is too small": {func(c caseOf) { c.app.Size = &ordinary; c.free(5 * gib) },
			"refused: disk /data: 5.0 GiB are free, the databases need about 10.0 GiB, and WAL up to 1.0 GiB", "free at least 8.2 GiB on the file system of /data"},
		"a disk that is nearly too small": {func(c caseOf) { c.app.Size = &ordinary; c.free(12 * gib) },
			"warning: disk /data: 12.0 GiB are free, the databases need about 10.0 GiB, and WAL up to 1.0 GiB", "free at least 1.2 GiB"},
		"a disk that is large enough": {func(c caseOf) { c.app.Size = &ordinary; c.free(20 * gib) }, "warning: max_wal_size: ", ""},
		"a disk for both at once": {func(c caseOf) {
			c.app.Size, c.request.Replace, c.request.Databases = &ordinary, true, []job.Mapping{{Source: "app", Target: "old"}}
			c.target.Databases["old"] = plan.Existing{Size: 10 * gib}
			c.free(7 * gib)
		}, "refused: disk /data: 7.0 GiB are free, the databases need about 10.0 GiB while those that they replace are still there", "free at least"},
		"a disk of a tablespace": {func(c caseOf) {
			c.app.Size = &repo.SizeFacts{Bytes: 10 * gib, Elsewhere: []repo.SpaceFacts{{Tablespace: "fast", Bytes: 9 * gib}}}
			c.target.Tablespaces["fast"] = true
			c.target.Disk.Spaces["fast"] = plan.Space{Path: "/fast", Space: host.Space{Device: 2, Free: 5 * gib}}
		}, "refused: disk /fast: 5.0 GiB are free, the databases need about 9.0 GiB", "free at least 5.8 GiB on the file system of /fast"},
		"a snapshot that did not record sizes": {func(c caseOf) { c.app.Tables[0].Pages = 1 << 20; c.free(5 * gib) },
			"refused: disk /data: 5.0 GiB are free, the databases need about 12.0 GiB", ""},
		"a disk elsewhere": {func(c caseOf) {
			c.target.Disk = plan.Disk{Unchecked: "the server is elsewhere: this host has no /data"}
		},
			"not checked: free disk: the server is elsewhere: this host has no /data", ""},
		"a disk where nothing of the log can go": {func(c caseOf) {
			c.app.Size = &ordinary
			c.target.Traffic.IdleSlots = []pg.Name{"gone"}
			c.free(20 * gib)
		}, "warning: disk /data: 20.0 GiB are free, the databases need about 10.0 GiB, and WAL up to 10.0 GiB", ""},

		"no connection left":   {func(c caseOf) { c.target.Traffic.Sessions = 99 }, "refused: max_connections: 1 connections are left, a restore needs at least 2", "raise max_connections (now 100)"},
		"few connections left": {func(c caseOf) { c.target.Traffic.Sessions, c.request.Jobs = 97, 4 }, "warning: max_connections: 3 connections are left, 5 are wanted", "--jobs 2"},
		"connections that are kept for others": {func(c caseOf) {
			c.target.Superuser, c.target.Settings.Reserved, c.target.Traffic.Sessions, c.request.NoOwner = false, 2, 94, true
		}, "refused: max_connections: 1 connections are left", ""},
		"a role of few connections": {func(c caseOf) {
			c.target.Superuser, c.target.Settings.RoleLimit, c.request.Jobs = false, 3, 4
		}, "warning: role postgres: 3 connections are left, 5 are wanted", `ALTER ROLE "postgres" CONNECTION LIMIT 5;`},

		"more locks than there is room":  {func(c caseOf) { c.needs.Locks, c.needs.LocksBy = 20000, "s.p" }, "refused: database app: table s.p: 20000 relations are locked at once, with partitions and indexes; the lock table has room for 6400", "ALTER SYSTEM SET max_locks_per_transaction = 251; then restart"},
		"nearly more locks than is sure": {func(c caseOf) { c.needs.Locks, c.needs.LocksBy = 6000, "s.p" }, "warning: database app: table s.p: 6000 relations", "max_locks_per_transaction = 76"},
		"locks for which there is room":  {func(c caseOf) { c.needs.Locks = 5000 }, "", ""},
		"an archiver that fails": {func(c caseOf) {
			c.target.Traffic.ArchiverFailing, c.target.Traffic.ArchiverStuck = time.Unix(0, 0), "00000001000000000000000A"
		}, "warning: archive_command: archiving fails since 1970-01-01 00:00:00 at segment 00000001000000000000000A", "mend archive_command"},
		"a slot that nobody reads":        {func(c caseOf) { c.target.Traffic.IdleSlots = []pg.Name{"gone", "too"} }, "warning: replication slot gone: nobody reads from it, nor from another one", "SELECT pg_drop_replication_slot('gone')"},
		"a slot that cannot hold it back": {func(c caseOf) { c.target.Traffic.IdleSlots, c.target.Settings.MaxSlotWAL = []pg.Name{"gone"}, 1<<30 }, "", ""},
		"standbys": {func(c caseOf) { c.app.Size = &repo.SizeFacts{Bytes: gib}; c.target.Traffic.Standbys = 2 },
			"warning: standbys: 2 stream from this server: each receives what the restore writes, about 1.0 GiB of WAL", "pg_stat_replication"},
		"standbys of little data": {func(c caseOf) { c.target.Traffic.Standbys = 2 }, "", ""},
		"a small max_wal_size":    {func(c caseOf) { c.app.Size = &ordinary }, "warning: max_wal_size: it is 1.0 GiB, the restore writes about 10.0 GiB of WAL", "ALTER SYSTEM SET max_wal_size = '5GB'; SELECT pg_reload_conf();"},

		"a folder that is missing": {func(c caseOf) { c.tablespace("does not exist") }, "refused: tablespace fast: its folder /fast does not exist", "install -d -m 700 -o postgres -g postgres /fast"},
		"a folder that is there":   {func(c caseOf) { c.tablespace("") }, "", ""},
		"a folder that is hidden":  {func(c caseOf) { c.tablespace(""); delete(c.target.Directories, "/fast") }, "not checked: tablespace fast: its folder /fast cannot be looked at", "GRANT pg_read_server_files"},
	} {
		t.Run(name, func(t *testing.T) {
			w := caseOf{content: snapshot(), target: known(), request: &job.Restore{Databases: []job.Mapping{{Source: "app", Target: "new"}}, Jobs: 2},
				needs: &plan.Needs{Roles: map[pg.Name]plan.Need{}, Tablespaces: map[pg.Name]plan.Need{}, Extensions: map[pg.Name]plan.Need{}}}
			w.app = &w.content.Logical.Databases[0]
			c.change(w)
			lines := plan.Decide(w.content, map[*repo.Database]*plan.Needs{w.app: w.needs}, w.target, repo.ID{0xab}, *w.request).Lines()
			if c.want == "" {
				for _, l := range lines {
					for _, bad := range []string{"refused:", "warning:", "not checked:"} {
						if strings.HasPrefix(l, bad) {
							t.Error(l)
						}
					}
				}
				return
			}
			for i, l := range lines {
				if strings.HasPrefix(l, c.want) {
					if c.hint != "" && (i+1 == len(lines) || !strings.HasPrefix(lines[i+1], "  hint: ") || !strings.Contains(lines[i+1], c.hint)) {
						t.Errorf("the hint is not %q: %v", c.hint, lines[i+1:])
					}
					return
				}
			}
			t.Errorf("%q is not said in\n%s", c.want, strings.Join(lines, "\n"))
		})
	}
}

// free sets the free space of the data directory's disk.
func (c caseOf) free(bytes int64) {
	data := plan.Space{Path: "/data", Space: host.Space{Device: 1, Free: bytes}}
	c.target.Disk.Spaces["pg_default"], c.target.Disk.WAL = data, data
}

// tablespace lets the restore make one, whose folder is in a state.
func (c caseOf) tablespace(wrong string) {
	c.needs.Tablespaces["fast"] = plan.Need{By: "TABLE s.t", Essential: true}
	c.content.Logical.Globals = repo.Globals{Tablespaces: []json.RawMessage{[]byte(`{"name": "fast", "owner": "ann", "location": "/fast"}`)}}
	c.request.Globals = true
	c.target.Directories["/fast"] = wrong
}

func TestWhatStandsInTheWayComesFirst(t *testing.T) {
	content, to := snapshot(), known()
	to.Version, to.Traffic.Sessions, to.Disk = 150017, 100, plan.Disk{Unchecked: "the server is elsewhere"}
	var heads []string
	for _, l := range plan.Decide(content, nil, to, repo.ID{0xab}, job.Restore{Databases: []job.Mapping{{Source: "app", Target: "postgres"}}}).Lines() {
		head, _, _ := strings.Cut(l, ":")
		heads = append(heads, head)
	}
	want := []string{"refused", "  hint", "refused", "  hint", "warning", "  hint", "not checked", "server 15.17, snapshot of 15.18"}
	if d := cmp.Diff(want, heads[:min(len(heads), len(want))]); d != "" {
		t.Error(d)
	}
}

func TestTheTimeIsEstimatedFromPastRestores(t *testing.T) {
	for _, c := range []struct {
		bytes, rate int64
		restores    int
		want        string
	}{
		{1 << 30, 0, 0, "time: no past restore to estimate from"},
		{1 << 30, 0, 3, "time: no past restore to estimate from"},
		{60 << 30, 85 << 20, 3, "time: about 12 min, by 3 past restores at 85.0 MiB/s"},
		{1 << 30, 20 << 20, 1, "time: about 50 s, by 1 past restore at 20.0 MiB/s"},
		{9, 20 << 20, 1, "time: about 10 s, by 1 past restore at 20.0 MiB/s"},
		{1 << 40, 85 << 20, 2, "time: about 3 h 30 min, by 2 past restores at 85.0 MiB/s"},
	} {
		content := snapshot()
		content.Logical.Databases[0].Tables[0].Runs[0].Stream.Bytes = c.bytes
		r := job.Restore{Databases: []job.Mapping{{Source: "app", Target: "new"}}, PastBytesPerSecond: c.rate, PastRestores: c.restores}
		lines := plan.Decide(content, nil, known(), repo.ID{0xab}, r).Lines()
		if got := lines[len(lines)-1]; got != c.want {
			t.Errorf("%d bytes: %q, want %q", c.bytes, got, c.want)
		}
	}
}

func TestVersionsOfExtensionsAreComparedWhereThatMakesSense(t *testing.T) {
	for pair, want := range map[[2]string]string{
		{"1.8", "1.8"}: "0", {"1.8", "1.10"}: "-1", {"3.4.1", "3.4"}: "1", {"3.4.0", "3.4"}: "?", {"2.15.1-dev", "2.15.1"}: "?", {"2.16", "2.15.1-dev"}: "1", {"unpackaged", "1.0"}: "?", {"", "1"}: "-1",
	} {
		if got := plan.CompareVersions(pair[0], pair[1]); got != want {
			t.Errorf("%v: %s, want %s", pair, got, want)
		}
	}
}
