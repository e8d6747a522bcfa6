package api

import (
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Bounds of the patterns and mappings of one restore.
const (
	maxPatterns     = 1000
	maxPatternBytes = 1024 // a schema and a name of 63 bytes each, quoted, four bytes a byte in display form
	maxMappings     = 1000
)

// parseRestore reads what a restore is asked to do, without its snapshot, and
// refuses wishes that contradict each other: here a person sees it at once.
func parseRestore(r *tuskvaultv1.StartRestoreRequest) (*catalog.RestoreSpec, error) {
	spec := &catalog.RestoreSpec{Jobs: r.GetJobs(), Replace: r.GetReplace(), DryRun: r.GetDryRun(), NoOwner: r.GetNoOwner(), Globals: r.GetGlobals(),
		Schemas: r.GetSchemas(), Tables: r.GetTables(), Live: r.GetLive(), LiveSchema: r.GetLiveSchema(), SkipDamaged: r.GetSkipDamaged(),
		OverwritePasswords: r.GetOverwritePasswords(), GlobalsOnly: r.GetGlobalsOnly()}
	var err error
	if spec.Databases, err = parseMappings(r.GetDatabases()); err != nil {
		return nil, err
	}
	if err := checkWorkers("jobs", r.GetJobs()); err != nil {
		return nil, err
	}
	for name, patterns := range map[string][]string{"schemas": r.GetSchemas(), "tables": r.GetTables()} {
		if err := checkPatterns(name, patterns); err != nil {
			return nil, err
		}
	}
	if spec.Sections, err = parseSections(r.GetSections()); err != nil {
		return nil, err
	}
	if spec.Roles, err = parseNameMappings("role_map", r.GetRoleMap(), false); err != nil {
		return nil, err
	}
	if spec.Tablespaces, err = parseNameMappings("tablespace_map", r.GetTablespaceMap(), true); err != nil {
		return nil, err
	}
	return spec, checkWishes(spec)
}

// checkWishes refuses combinations that mean nothing.
func checkWishes(s *catalog.RestoreSpec) error {
	selective := len(s.Schemas)+len(s.Tables) > 0
	switch {
	case s.Live && !selective:
		return field("live", "needs schemas or tables: a whole database is replaced with replace and without live")
	case s.Live && (s.Globals || s.GlobalsOnly):
		return field("live", "does not go with globals: restore those by themselves (globals_only)")
	case s.LiveSchema != "" && !s.Live:
		return field("live_schema", "needs live")
	case len(s.LiveSchema) > maxGlobBytes:
		return field("live_schema", "has more than %d bytes", maxGlobBytes)
	case (s.OverwritePasswords || s.GlobalsOnly) && !s.Globals:
		return field("globals", "is needed by overwrite_passwords and globals_only")
	case s.GlobalsOnly && (selective || len(s.Databases) > 0 || s.Replace || len(s.Sections) > 0):
		return field("globals_only", "does not go with databases, schemas, tables, sections or replace")
	case len(s.Sections) > 0 && s.Replace && !s.Live:
		return field("sections", "does not go with replace: a database is replaced by a whole one")
	case selective && s.Replace && !s.Live:
		return field("replace", "with schemas or tables it needs live: a whole database is not replaced by some of its tables")
	case len(s.Sections) > 0 && !s.Live && !slices.Contains(s.Sections, catalog.SectionPreData):
		return field("sections", "a new database needs pre-data; rows alone go into a table that exists with live and replace")
	}
	return nil
}

func checkPatterns(name string, patterns []string) error {
	if len(patterns) > maxPatterns {
		return field(name, "%d entries, at most %d are taken", len(patterns), maxPatterns)
	}
	for _, p := range patterns {
		switch {
		case p == "":
			return field(name, "holds an empty entry")
		case len(p) > maxPatternBytes:
			return field(name, "an entry has %d bytes, at most %d are taken", len(p), maxPatternBytes)
		}
	}
	return nil
}

func parseSections(list []tuskvaultv1.RestoreSection) ([]catalog.Section, error) {
	var out []catalog.Section
	for _, s := range list {
		section := catalog.Section(s)
		if section < catalog.SectionPreData || section > catalog.SectionPostData {
			return nil, field("sections", "%d is no section", s)
		}
		if !slices.Contains(out, section) {
			out = append(out, section)
		}
	}
	return out, nil
}

// parseNameMappings checks mappings. empty tells whether a target may be.
func parseNameMappings(name string, list []*tuskvaultv1.NameMapping, empty bool) ([]catalog.NameMapping, error) {
	if len(list) > maxMappings {
		return nil, field(name, "%d entries, at most %d are taken", len(list), maxMappings)
	}
	var out []catalog.NameMapping
	for _, m := range list {
		switch {
		case m.GetSource() == "" || m.GetTarget() == "" && !empty:
			return nil, field(name, "an entry lacks a name")
		case len(m.GetSource()) > maxGlobBytes || len(m.GetTarget()) > maxGlobBytes:
			return nil, field(name, "a name has more than %d bytes", maxGlobBytes)
		case slices.ContainsFunc(out, func(o catalog.NameMapping) bool { return o.Source == m.GetSource() }):
			return nil, field(name, "%q is mapped twice", m.GetSource())
		}
		out = append(out, catalog.NameMapping{Source: m.GetSource(), Target: m.GetTarget()})
	}
	return out, nil
}
