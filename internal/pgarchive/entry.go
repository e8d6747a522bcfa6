package pgarchive

import (
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// ID is the number by which entries of one archive name each other.
type ID int32

// Section is where pg_dump put an entry.
type Section byte

// The sections. An entry of SectionNone (privileges, comments, labels) goes
// where the object goes that it is about.
const (
	SectionNone Section = 1
	SectionPre  Section = 2
	SectionData Section = 3
	SectionPost Section = 4
)

// ClassTable is the OID of pg_class: the TableOID of entries for relations.
const ClassTable = 1259

// Archive is the head and table of contents of one archive.
type Archive struct {
	// Version of the format, for example {1, 14, 0}.
	Version Version
	// Compression as the archive records it; archives of schemas hold no data.
	Compression int
	// Created by the clock of the host that ran pg_dump, without a zone.
	Created time.Time
	// Database is the name of the source, Server and Tool are versions in words.
	Database, Server, Tool pg.Name
	// Entries in their order.
	Entries []Entry

	byID map[ID]*Entry
	post map[ID]bool // of entries of SectionNone: goes with post-data
}

// Version is the version of the archive format.
type Version struct{ Major, Minor, Revision byte }

// Entry is one entry. Texts are in the archive's encoding, byte for byte.
type Entry struct {
	// ID within the archive.
	ID ID
	// TableOID and OID name the object in the source's catalogs.
	TableOID, OID uint32
	// Tag is the object's name, Desc its kind, for example "FK CONSTRAINT".
	Tag  pg.Name
	Desc string
	// Section as pg_dump set it; see Archive.PhaseOf.
	Section Section
	// Defn makes the object, Drop removes it, Copy would load it.
	Defn, Drop, Copy string
	// Namespace, Tablespace and TableAM (access method) may be empty.
	Namespace, Tablespace, TableAM pg.Name
	// RelKind is 0 in archives before 1.16.
	RelKind byte
	// Owner may be empty.
	Owner pg.Name
	// Deps are entries that must be executed before; some may not be in the archive.
	Deps []ID
	// HasData tells that the entry stands for data, which is kept beside the table
	// of contents: in the directory format in File, a name within the folder.
	HasData bool
	File    string

	// blank has a bit for each text that is there though empty. pg_restore tells
	// them apart: no tablespace is "whichever is set", an empty one is "the default".
	blank blanks
}

// blanks are the texts of an entry that may be missing.
type blanks uint16

const (
	blankDefn blanks = 1 << iota
	blankDrop
	blankCopy
	blankNamespace
	blankTablespace
	blankTableAM
	blankOwner
	blankTag
)

// String names the entry for people.
func (e *Entry) String() string {
	if e.Namespace == "" {
		return e.Desc + " " + e.Tag.Display()
	}
	return e.Desc + " " + e.Namespace.Display() + "." + e.Tag.Display()
}

// Entry gives an entry by its number, nil when there is none.
func (a *Archive) Entry(id ID) *Entry { return a.byID[id] }

// Phase is when an entry is executed.
type Phase int

// The phases.
const (
	// Skipped entries have nothing to execute: settings of the session (see
	// Session), data, and what belongs to the database as a whole.
	Skipped Phase = iota
	// PreData is executed in order of the archive, before rows are loaded.
	PreData
	// PostData is executed as soon as what it depends on is there, rows included.
	PostData
)

// PhaseOf tells when an entry is executed.
func (a *Archive) PhaseOf(e *Entry) Phase {
	switch e.Desc {
	case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES":
		return Skipped
	}
	switch {
	case a.ofDatabase(e):
		return Skipped
	case e.Section == SectionPost, e.Section == SectionNone && a.post[e.ID]:
		return PostData
	case e.Section == SectionPre, e.Section == SectionNone:
		return PreData
	}
	return Skipped
}

// ofDatabase tells whether an entry is a privilege, comment or label of the
// database itself. pg_dump puts these into every archive that is no script, with
// the name of the source: executed elsewhere they fail, or change the source.
func (a *Archive) ofDatabase(e *Entry) bool {
	if e.Section != SectionNone {
		return false
	}
	for _, d := range e.Deps {
		if on := a.byID[d]; on != nil && on.Desc == "DATABASE" {
			return true
		}
	}
	return strings.HasPrefix(string(e.Tag), "DATABASE ") // as pg_restore finds them
}

// Session gives the statements with which every session that executes entries
// begins: the encoding of the texts, how strings are written, an empty search path.
func (a *Archive) Session() []string {
	var all []string
	for i := range a.Entries {
		switch a.Entries[i].Desc {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH":
			all = append(all, a.Entries[i].Defn)
		}
	}
	return all
}

// Pass groups entries of post-data: all of a pass are executed before the next.
type Pass int

// The passes.
const (
	// PassMain is everything else.
	PassMain Pass = iota
	// PassPrivileges is after all objects and rows: default privileges would
	// otherwise apply to what the restore makes itself.
	PassPrivileges
	// PassRefresh fills materialized views, which may need the privileges.
	PassRefresh
	// PassEvents makes event triggers, which must not fire during the restore: a
	// refresh would fire them too.
	PassEvents
)

// Passes is the number of passes.
const Passes = int(PassEvents) + 1

// Pass tells to which pass an entry belongs.
func (e *Entry) Pass() Pass {
	switch e.Desc {
	case "ACL", "DEFAULT ACL":
		return PassPrivileges
	case "MATERIALIZED VIEW DATA", "STATISTICS DATA":
		return PassRefresh
	case "EVENT TRIGGER":
		return PassEvents
	case "COMMENT", "SECURITY LABEL":
		if strings.HasPrefix(string(e.Tag), "EVENT TRIGGER ") {
			return PassEvents
		}
	}
	return PassMain
}

// IsPrivilege tells whether the entry sets privileges.
func (e *Entry) IsPrivilege() bool { return e.Pass() == PassPrivileges }

// byName are the kinds whose owner is set by schema and name.
var byName = map[string]bool{
	"COLLATION": true, "CONVERSION": true, "DOMAIN": true, "FOREIGN TABLE": true, "MATERIALIZED VIEW": true, "SEQUENCE": true,
	"STATISTICS": true, "TABLE": true, "TEXT SEARCH DICTIONARY": true, "TEXT SEARCH CONFIGURATION": true, "TYPE": true, "VIEW": true,
	"PROCEDURAL LANGUAGE": true, "SCHEMA": true, "EVENT TRIGGER": true, "FOREIGN DATA WRAPPER": true, "SERVER": true,
	"PUBLICATION": true, "SUBSCRIPTION": true,
}

// bySignature are the kinds whose name needs arguments, which only the
// statement that drops them has in full.
var bySignature = map[string]bool{
	"AGGREGATE": true, "FUNCTION": true, "OPERATOR": true, "OPERATOR CLASS": true, "OPERATOR FAMILY": true, "PROCEDURE": true,
}

// OwnerStatement gives the statement that makes the entry's owner own what it
// made, or "" when there is nothing to do.
func (e *Entry) OwnerStatement() string {
	if e.Owner == "" || e.Drop == "" {
		return ""
	}
	var object string
	switch {
	case byName[e.Desc]:
		object = e.Desc + " " + e.qualified()
	case bySignature[e.Desc]:
		object = strings.TrimRight(strings.TrimPrefix(e.Drop, "DROP "), ";\n ")
	default:
		return ""
	}
	return "ALTER " + object + " OWNER TO " + e.Owner.Quote() + ";"
}

// AccessMethodStatement gives the statement that sets the default access method
// of a partitioned table, which has no storage of its own, or "".
func (e *Entry) AccessMethodStatement() string {
	if e.RelKind != 'p' || e.TableAM == "" {
		return ""
	}
	return "ALTER TABLE " + e.qualified() + " SET ACCESS METHOD " + e.TableAM.Quote() + ";"
}

func (e *Entry) qualified() string {
	if e.Namespace == "" {
		return e.Tag.Quote()
	}
	return e.Namespace.Quote() + "." + e.Tag.Quote()
}
