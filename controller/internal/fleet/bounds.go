package fleet

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/report"
)

// Bounds of what one agent can make the catalog keep. Each is beyond what a
// real server has (PostgreSQL's names have at most 63 bytes, 252 in display
// form), so that honest inventories are never cut.
const (
	maxName          = 256   // bytes of a name of a database, role, extension or tool
	maxWord          = 128   // bytes of a version, platform, encoding or the like
	maxText          = 1024  // bytes of a path, a reason, an error
	maxLine          = 8192  // bytes of a log line, a plan line
	maxInstances     = 64    // instances of one agent at a time
	maxKnown         = 128   // instances of one agent ever: each has a domain, and keys, for ever
	maxDatabases     = 10000 // databases of one instance
	maxRoles         = 10000 // roles of one instance
	maxTablespaces   = 1000  // tablespaces of one instance
	maxExtensions    = 1000  // extensions of one database, or available ones
	maxAllExtensions = 50000 // extensions of all databases of an instance together
	maxTools         = 64    // dump tools of one host
	maxServers       = 32    // installations of server programs of one host
	maxCertificate   = 8192  // bytes of a certificate, or of a signature
	maxAllow         = 16    // words of the agent's own file
	maxProgress      = 1000  // databases in one progress report
	maxBlocked       = 100   // blocked sessions in one progress report
	maxTables        = 64    // tables in one progress report, of all databases together

	// maxCount bounds rows and bytes in a progress report: all of them together
	// still fit an integer.
	maxCount = 1 << 52

	// maxResultPart bounds, in bytes, each of the lists of one result, so that a
	// job with its result fits into one message to a person.
	maxResultPart = 900 << 10
)

// clip gives s as valid UTF-8 of at most n bytes, without control characters.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && len(s) > n-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// cut shortens a list, and notes it.
func cut[T any](list []T, n int, what string, notes *[]string) []T {
	if len(list) <= n {
		return list
	}
	if notes != nil {
		*notes = append(*notes, fmt.Sprintf("%d of %d %s kept", n, len(list), what))
	}
	return list[:n]
}

// boundList gives at most n words of at most size bytes each, nil for none.
func boundList(list []string, n, size int) []string {
	if len(list) == 0 {
		return nil
	}
	list = cut(list, n, "", nil)
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clip(s, size)
	}
	return out
}

func boundBuild(b catalog.Build) catalog.Build {
	return catalog.Build{Version: clip(b.Version, maxWord), Revision: clip(b.Revision, maxWord), Capability: b.Capability, Platform: clip(b.Platform, maxWord)}
}

func boundHost(v catalog.Inventory, notes *[]string) catalog.Inventory {
	v.Hostname, v.OperatingSystem = clip(v.Hostname, maxName), clip(v.OperatingSystem, maxName)
	v.Tools = cut(v.Tools, maxTools, "tools", notes)
	var tools []catalog.Tool
	for _, t := range v.Tools {
		tools = append(tools, catalog.Tool{Name: clip(t.Name, maxName), Path: clip(t.Path, maxText), Version: t.Version})
	}
	v.Tools = tools
	v.Drill.Refusal = clip(v.Drill.Refusal, maxText)
	v.Drill.Servers = cut(v.Drill.Servers, maxServers, "server installations", notes)
	var servers []catalog.ServerInstallation
	for _, s := range v.Drill.Servers {
		servers = append(servers, catalog.ServerInstallation{Folder: clip(s.Folder, maxText), Version: s.Version, Amcheck: s.Amcheck,
			ExtensionsKnown: s.ExtensionsKnown && len(s.Extensions) <= maxExtensions, Extensions: boundList(s.Extensions, maxExtensions, maxName)})
	}
	v.Drill.Servers = servers
	return v
}

func boundInstance(v catalog.InstanceInventory, notes *[]string) catalog.InstanceInventory {
	v.Error, v.DataDirectory = clip(v.Error, maxText), clip(v.DataDirectory, maxText)
	v.Databases = cut(v.Databases, maxDatabases, "databases", notes)
	budget := maxAllExtensions
	var databases []catalog.DatabaseInventory
	shortened := 0
	for _, d := range v.Databases {
		d.Name, d.Encoding, d.LocaleProvider = clip(d.Name, maxName), clip(d.Encoding, maxWord), clip(d.LocaleProvider, maxWord)
		d.Locale, d.CollationVersion = clip(d.Locale, maxWord), clip(d.CollationVersion, maxWord)
		all := len(d.Extensions)
		d.Extensions = boundExtensions(d.Extensions, min(maxExtensions, budget), nil)
		budget -= len(d.Extensions)
		if len(d.Extensions) < all {
			shortened++
		}
		databases = append(databases, d)
	}
	if v.Databases = databases; shortened > 0 {
		*notes = append(*notes, fmt.Sprintf("not all extensions of %d databases kept", shortened))
	}
	v.Roles = boundList(cut(v.Roles, maxRoles, "roles", notes), maxRoles, maxName)
	v.Tablespaces = boundList(cut(v.Tablespaces, maxTablespaces, "tablespaces", notes), maxTablespaces, maxName)
	v.AvailableExtensions = boundExtensions(v.AvailableExtensions, maxExtensions, notes)
	return v
}

func boundExtensions(list []catalog.Extension, n int, notes *[]string) []catalog.Extension {
	list = cut(list, n, "extensions", notes)
	if len(list) == 0 {
		return nil
	}
	out := make([]catalog.Extension, len(list))
	for i, e := range list {
		out[i] = catalog.Extension{Name: clip(e.Name, maxName), Version: clip(e.Version, maxWord)}
	}
	return out
}

func boundProgress(p job.Progress) job.Progress {
	p.Phase = clip(p.Phase, maxName)
	p.Databases = cut(p.Databases, maxProgress, "", nil)
	tables := maxTables
	for i := range p.Databases {
		d := &p.Databases[i]
		d.Database, d.Phase = clip(d.Database, maxName), clip(d.Phase, maxWord)
		d.RowsDone, d.BytesDone, d.BytesTotal = count(d.RowsDone), count(d.BytesDone), count(d.BytesTotal)
		d.Tables = cut(d.Tables, tables, "", nil)
		tables -= len(d.Tables)
		for j := range d.Tables {
			t := &d.Tables[j]
			t.Table, t.Phase = clip(t.Table, 2*maxName), clip(t.Phase, maxWord)
			t.RowsDone, t.RowsTotal, t.BytesDone, t.BytesTotal = count(t.RowsDone), count(t.RowsTotal), count(t.BytesDone), count(t.BytesTotal)
		}
	}
	p.Blocked = boundList(p.Blocked, maxBlocked, maxText)
	return p
}

func count(n int64) int64 { return min(max(n, 0), maxCount) }

func boundLine(l catalog.LogLine) catalog.LogLine {
	switch l.Level {
	case "debug", "info", "warn", "error":
	default:
		l.Level = "info"
	}
	l.Message = clip(l.Message, maxLine)
	return l
}

// within keeps the first of a list that together have at most maxResultPart bytes.
func within[T any](list []T, what string, notes *[]string, size func(T) int) []T {
	total := 0
	for i, v := range list {
		if total += size(v) + 64; total > maxResultPart { // 64 for what is not text
			return cut(list, i, what, notes)
		}
	}
	return list
}

// boundDrill drops a report that cannot be one: it is read by its own rules, and
// only its size is looked at here. Nothing of it is cut, for it is signed.
func boundDrill(r *catalog.DrillReport) *catalog.DrillReport {
	if r == nil || len(r.Statement) > report.MaxBytes || len(r.Signature) > maxCertificate || len(r.Certificate) > maxCertificate {
		return nil
	}
	return r
}

// boundResult shortens a result, and says in its last problem what was cut.
func boundResult(r catalog.Result) catalog.Result {
	var notes []string
	r.Error = clip(r.Error, maxText)
	r.Databases = cut(r.Databases, catalog.MaxDatabaseResults, "database results", &notes)
	for i := range r.Databases {
		d := &r.Databases[i]
		d.Database, d.Target, d.Error = clip(d.Database, maxName), clip(d.Target, maxName), clip(d.Error, maxText)
	}
	r.Databases = within(r.Databases, "database results", &notes, func(d catalog.DatabaseResult) int { return len(d.Database) + len(d.Target) + len(d.Error) })
	r.Plan = boundList(cut(r.Plan, catalog.MaxPlanLines, "plan lines", &notes), catalog.MaxPlanLines, maxLine)
	r.Plan = within(r.Plan, "plan lines", &notes, func(s string) int { return len(s) })
	r.Problems = cut(r.Problems, catalog.MaxProblems-1, "problems", &notes)
	for i := range r.Problems {
		p := &r.Problems[i]
		p.Database, p.Object = clip(p.Database, maxName), clip(p.Object, 2*maxName)
		p.Reason, p.Hint = clip(p.Reason, maxText), clip(p.Hint, maxText)
	}
	r.Problems = within(r.Problems, "problems", &notes, func(p catalog.Problem) int {
		return len(p.Database) + len(p.Object) + len(p.Reason) + len(p.Hint)
	})
	if len(notes) > 0 {
		r.Problems = append(r.Problems[:len(r.Problems):len(r.Problems)], catalog.Problem{Reason: "the report was too long: " + strings.Join(notes, ", ")})
	}
	return r
}
