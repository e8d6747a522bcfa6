package repo

import (
	"encoding/json"
	"time"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// SnapshotKind says what a snapshot is of.
type SnapshotKind string

// KindLogical is a snapshot of databases as schema and rows. A physical kind
// (data directory and log positions) will have a section of its own in Content.
const KindLogical SnapshotKind = "logical"

// Content is the content part of a snapshot: what is in it and where, by
// position in the references part. It is JSON, compressed and sealed by the
// agent under the domain's data key.
type Content struct {
	// Version is the version of this structure, 1.
	Version int `json:"version"`
	// Kind says which section below is set.
	Kind SnapshotKind `json:"kind"`
	// Agent is the version of the agent program that wrote it.
	Agent string `json:"agent"`
	// Started and Finished bound the reading, by the agent's clock.
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Instance is what was known of the server.
	Instance InstanceFacts `json:"instance"`
	// Problems concern the whole instance.
	Problems []Problem `json:"problems"`
	// Logical is set when Kind is KindLogical.
	Logical *Logical `json:"logical,omitempty"`
}

// InstanceFacts are facts of the server at the time of the backup.
type InstanceFacts struct {
	Name             string     `json:"name"`
	SystemIdentifier uint64     `json:"system_identifier,string"`
	Timeline         uint32     `json:"timeline"`
	Version          pg.Version `json:"server_version_num"`
	InRecovery       bool       `json:"in_recovery"`
	BlockSize        int        `json:"block_size"`
	// Settings are server settings that matter to a reader, by name.
	Settings map[string]string `json:"settings"`
}

// Problem is something a person should know about a snapshot.
type Problem struct {
	// Severity is "warning" (nothing is missing) or "error" (something is).
	Severity string  `json:"severity"`
	Database pg.Name `json:"database,omitempty"`
	Object   string  `json:"object,omitempty"`
	Reason   string  `json:"reason"`
	Hint     string  `json:"hint,omitempty"`
}

// Logical is a logical snapshot.
type Logical struct {
	// Globals are roles, memberships, role settings and tablespaces, as rows of the catalogs.
	Globals Globals `json:"globals"`
	// Databases asked for, whether they could be read or not, by name.
	Databases []Database `json:"databases"`
}

// Globals are rows of the shared catalogs as JSON objects, with whatever
// columns the server's version has. They are fields, never SQL text. The types
// named beside them read what every version has.
type Globals struct {
	Roles         []json.RawMessage `json:"roles"`          // RoleFacts
	Memberships   []json.RawMessage `json:"memberships"`    // MembershipFacts
	RoleSettings  []json.RawMessage `json:"role_settings"`  // SettingFacts
	Tablespaces   []json.RawMessage `json:"tablespaces"`    // TablespaceFacts
	ParameterACLs []json.RawMessage `json:"parameter_acls"` // ParameterFacts
	// PasswordsRead tells whether the role could read password hashes.
	PasswordsRead bool `json:"passwords_read"`
}

// DatabaseState says how much of a database is in a snapshot.
type DatabaseState string

// The states of a database.
const (
	// DatabaseComplete: everything.
	DatabaseComplete DatabaseState = "complete"
	// DatabasePartial: something named in Problems is missing.
	DatabasePartial DatabaseState = "partial"
	// DatabaseFailed: nothing that can be restored.
	DatabaseFailed DatabaseState = "failed"
)

// Database is one database of a logical snapshot.
type Database struct {
	Name     pg.Name       `json:"name"`
	OID      uint32        `json:"oid"`
	State    DatabaseState `json:"state"`
	Problems []Problem     `json:"problems"`
	// LSN and Time are those of the exported snapshot.
	LSN  pg.LSN    `json:"lsn"`
	Time time.Time `json:"time"`
	// Encoding is the server encoding's name, for example "UTF8".
	Encoding string `json:"encoding"`
	// Properties is the row of pg_database as a JSON object; see PropertiesOf.
	Properties json.RawMessage `json:"properties"`
	// Settings are rows of pg_db_role_setting for this database, as SettingFacts.
	Settings []json.RawMessage `json:"settings"`
	// PublicACL and PublicOwner are those of schema public, for restores across version 15.
	PublicACL   string  `json:"public_acl,omitempty"`
	PublicOwner pg.Name `json:"public_owner,omitempty"`
	// Session are the settings under which rows and fingerprints were read.
	Session map[string]string `json:"session"`
	// Extensions created in the database.
	Extensions []ExtensionFacts `json:"extensions"`
	// Size is what the database took on disk, nil where it was not recorded.
	Size *SizeFacts `json:"size,omitempty"`
	// Collations that have a version and that something in the database is ordered
	// or compared by; at most MaxCollations, the database's default first.
	Collations []CollationFacts `json:"collations,omitempty"`
	// Archive is pg_dump's schema archive.
	Archive *Archive `json:"archive,omitempty"`
	// Statements are SQL statements for what pg_dump leaves out for a role that
	// is not a superuser (subscriptions, options of user mappings), made from
	// the catalogs.
	Statements []string `json:"statements"`
	// Tables, by OID.
	Tables []Table `json:"tables"`
	// Sequences, by OID.
	Sequences []Sequence `json:"sequences"`
	// LargeObjects, nil when there are none.
	LargeObjects *LargeObjects `json:"large_objects,omitempty"`
}

// ExtensionFacts describe an extension.
type ExtensionFacts struct {
	Name    pg.Name `json:"name"`
	Version string  `json:"version"`
	Schema  pg.Name `json:"schema"`
}

// Archive is a pg_dump custom-format archive without data.
type Archive struct {
	// Tool is the version of pg_dump, like server_version_num.
	Tool pg.Version `json:"tool_version_num"`
	// FormatVersion is the archive's own, for example "1.14".
	FormatVersion string `json:"format_version"`
	Stream        Stream `json:"stream"`
}

// Stream is a sequence of bytes kept as chunks: the concatenation of the
// entries that Spans name, in order.
type Stream struct {
	Spans []Span `json:"spans"`
	// Bytes is the whole plain length.
	Bytes int64 `json:"bytes"`
}

// Span is a run of entries of one chunk list.
type Span struct {
	// List is the position of the list in the references part.
	List uint32 `json:"l"`
	// First entry and number of entries.
	First uint32 `json:"f"`
	Count uint32 `json:"n"`
}

// Table is one relation whose rows are, or should be, in the snapshot.
type Table struct {
	OID    uint32  `json:"oid"`
	Schema pg.Name `json:"schema"`
	Name   pg.Name `json:"name"`
	// Columns in the order in which rows were read: sorted by name. Empty means
	// a table without columns that COPY takes.
	Columns []pg.Name `json:"columns"`
	// Root is the OID of the topmost partitioned table above it, 0 when it is no partition.
	Root uint32 `json:"root,omitempty"`
	// RootSchema and RootName name that table.
	RootSchema pg.Name `json:"root_schema,omitempty"`
	RootName   pg.Name `json:"root_name,omitempty"`
	// LoadViaRoot: its rows must be routed again when loaded.
	LoadViaRoot bool `json:"load_via_root,omitempty"`
	// OneStream: rows must be loaded in their order by one stream (BRIN, CLUSTERed).
	OneStream bool `json:"one_stream,omitempty"`
	// Extension is set for configuration tables: the extension they belong to.
	Extension pg.Name `json:"extension,omitempty"`
	// References are the OIDs of other configuration tables that foreign keys of
	// this one refer to: their rows must be loaded before.
	References []uint32 `json:"references,omitempty"`
	// Condition is the filter of an extension's configuration table, with its WHERE.
	Condition string `json:"condition,omitempty"`
	// Unlogged tells relpersistence u.
	Unlogged bool `json:"unlogged,omitempty"`
	// Omitted says why the rows are not in the snapshot, or is empty.
	Omitted string `json:"omitted,omitempty"`
	// Pages is the size of the heap when read, in blocks.
	Pages int64 `json:"pages"`
	// Rows and Fingerprint cover all rows, or all text rows when a binary run exists.
	Rows        int64       `json:"rows"`
	Fingerprint Fingerprint `json:"fingerprint"`
	// Runs, in heap order.
	Runs []Run `json:"runs"`
}

// Run is what one COPY gave: rows that can be loaded by themselves.
type Run struct {
	// Binary tells the COPY format.
	Binary bool   `json:"binary,omitempty"`
	Stream Stream `json:"stream"`
	Rows   int64  `json:"rows"`
	// Fingerprint of these rows, over the bytes of this format.
	Fingerprint Fingerprint `json:"fingerprint"`
	// Wide is set on binary runs: the predicate that picks their rows, for comparing.
	Wide string `json:"wide,omitempty"`
}

// Sequence is the state of a sequence.
type Sequence struct {
	OID       uint32  `json:"oid"`
	Schema    pg.Name `json:"schema"`
	Name      pg.Name `json:"name"`
	LastValue int64   `json:"last_value,string"`
	IsCalled  bool    `json:"is_called"`
	// Extension is set for an extension's configuration sequences.
	Extension pg.Name `json:"extension,omitempty"`
}

// LargeObjects are all large objects of a database.
type LargeObjects struct {
	Count int64 `json:"count"`
	// Rows of pg_largeobject and the fingerprint over them.
	Rows        int64       `json:"rows"`
	Fingerprint Fingerprint `json:"fingerprint"`
	// BlockSize is LOBLKSIZE of the source, in bytes.
	BlockSize int `json:"block_size"`
	// Data is COPY binary of (loid, pageno, data), in that order, without header and trailer.
	Data Stream `json:"data"`
	// Meta is JSON lines, one LargeObjectFacts a large object, by oid.
	Meta Stream `json:"meta"`
}
