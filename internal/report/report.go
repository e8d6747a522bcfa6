// Package report is the document that a drill leaves: what it says, which
// verdict follows from it, how it is written down, and how it is signed. The
// agent writes it and the controller reads it, so it belongs to both.
//
// The document is the bytes. They are kept as they were signed and are never
// written again from what was read; Decode refuses bytes that Encode would not
// have written, so that two readers cannot read two things. What the signature
// proves, and what it cannot, is said in docs/PROTOCOL.md.
//
// The verdict is not the agent's opinion: Judge derives it from what the report
// lists, and a reader derives it again.
package report

import (
	"time"
)

// Format is the version of the document that this program writes and reads.
const Format = 1

// Bounds of a report. A report within them stays below a megabyte, and with
// everything else of a result fits into one message.
const (
	// MaxBytes bounds the whole document.
	MaxBytes = 900 << 10
	// MaxDatabases bounds the databases that are listed; a drill has no more.
	MaxDatabases = 1000
	// MaxTables bounds the tables that are listed in the whole report; the rest are counted.
	MaxTables = 1000
	// MaxAssertions bounds the assertions of one drill.
	MaxAssertions = 200
	// MaxPhases bounds the steps that are listed.
	MaxPhases = 5000
	// MaxLines bounds each list of lines of one database, MaxText each text in bytes.
	MaxLines = 20
	MaxText  = 1000
)

// Verdict is what a drill, or one database of it, came to.
type Verdict string

// The verdicts.
const (
	// Passed: everything that was asked for ran, and nothing was found.
	Passed Verdict = "passed"
	// Failed: a difference, damage, or an assertion that does not hold.
	Failed Verdict = "failed"
	// Incomplete: nothing was found, and a part did not run.
	Incomplete Verdict = "incomplete"
)

// Report is what one drill found. The order of the fields is part of the form.
type Report struct {
	// Format is the version of the document; it comes first, and with its name
	// says what was signed.
	Format int `json:"tuskvault_drill_report"`
	// Job, and the fencing number of its Attempt as EPOCH.COUNTER.
	Job     string `json:"job"`
	Attempt string `json:"attempt"`
	// Repository, Domain, Snapshot and Agent by their ids.
	Repository string `json:"repository"`
	Domain     string `json:"domain"`
	Snapshot   string `json:"snapshot"`
	Agent      string `json:"agent"`
	// Verdict is what Judge says of the rest; Reason is for people.
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	// Host is where it was held.
	Host Host `json:"host"`
	// Asked are the databases that were asked for; empty means all of the snapshot.
	Asked []string `json:"asked"`
	// Started and Ended by the agent's clock, in UTC.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// TransferredBytes were fetched, sealed.
	TransferredBytes int64 `json:"transferred_bytes"`
	// Phases in order.
	Phases []Phase `json:"phases"`
	// Databases in the order of the snapshot.
	Databases []Database `json:"databases"`
}

// Host says where a drill was held, and by which programs.
type Host struct {
	Name            string `json:"name"`
	OperatingSystem string `json:"operating_system"`
	// AgentVersion is the agent program's.
	AgentVersion string `json:"agent_version"`
	// ServerVersion is like server_version_num, 0 when no server ran; ServerFolder has its programs.
	ServerVersion int    `json:"server_version_num"`
	ServerFolder  string `json:"server_folder"`
	// NetworkIsolated: the server had no network at all.
	NetworkIsolated bool `json:"network_isolated"`
}

// Phase is one step and how long it took, in milliseconds.
type Phase struct {
	Name     string `json:"name"`
	Database string `json:"database"`
	Millis   int64  `json:"ms"`
}

// Database is what was found in one database.
type Database struct {
	// Name in display form.
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	// State of the database in the snapshot: "complete", "partial" or "failed".
	State string `json:"state"`
	// Restored: everything of it is in place.
	Restored bool `json:"restored"`
	// Damaged: it is not restored, and the reason is damage, a difference, or that
	// the server refuses what the snapshot holds.
	Damaged bool `json:"damaged"`
	// Rows and PlainBytes loaded, DiskBytes of the database afterwards.
	Rows       int64 `json:"rows"`
	PlainBytes int64 `json:"plain_bytes"`
	DiskBytes  int64 `json:"disk_bytes"`
	// Equal, Differing and NotCompared count tables that have rows in the snapshot
	// (empty ones too); Omitted those whose rows are not in it.
	Equal       int64 `json:"tables_equal"`
	Differing   int64 `json:"tables_differing"`
	NotCompared int64 `json:"tables_not_compared"`
	Omitted     int64 `json:"tables_omitted"`
	// Tables lists some, the worst first.
	Tables []Table `json:"tables"`
	// Amcheck is what pg_amcheck came to, Output its first lines or why it did not run.
	Amcheck Amcheck  `json:"amcheck"`
	Output  []string `json:"amcheck_output"`
	// Assertions of this database.
	Assertions []Assertion `json:"assertions"`
	// Extensions and Locale compare versions in the snapshot and here, for people.
	Extensions []string `json:"extensions"`
	Locale     string   `json:"locale"`
	// Warnings are for people.
	Warnings []string `json:"warnings"`
	// Work is time by kind of work: of several sessions together, except for schema and statistics.
	Work []Phase `json:"work"`
}

// Comparison is what comparing a table came to.
type Comparison string

// The comparisons.
const (
	Equal       Comparison = "equal"
	Differs     Comparison = "differs"
	NotCompared Comparison = "not compared"
)

// Table is the result of one table.
type Table struct {
	// Name is schema and name in display form.
	Name   string     `json:"name"`
	Result Comparison `json:"result"`
	// Rows that the snapshot has.
	Rows   int64  `json:"rows"`
	Reason string `json:"reason"`
}

// Amcheck is what pg_amcheck came to.
type Amcheck string

// What it may come to.
const (
	// AmcheckClean: it found nothing.
	AmcheckClean Amcheck = "clean"
	// AmcheckDamaged: it found damage.
	AmcheckDamaged Amcheck = "damaged"
	// AmcheckFailed: it was begun and could not finish.
	AmcheckFailed Amcheck = "failed"
	// AmcheckNotAvailable: the host or the version does not have it.
	AmcheckNotAvailable Amcheck = "not available"
	// AmcheckNotRun: the drill did not get that far.
	AmcheckNotRun Amcheck = "not run"
)

// Outcome is what an assertion came to.
type Outcome string

// What it may come to.
const (
	// Holds: it gave what was expected.
	Holds Outcome = "holds"
	// DoesNotHold: it gave something else.
	DoesNotHold Outcome = "does not hold"
	// AssertionFailed: the query failed.
	AssertionFailed Outcome = "failed"
	// AssertionNotRun: the drill did not get that far.
	AssertionNotRun Outcome = "not run"
)

// Assertion is the result of one assertion.
type Assertion struct {
	Name   string  `json:"name"`
	SQL    string  `json:"sql"`
	Result Outcome `json:"result"`
	// Detail is what it gave, or why it failed.
	Detail string `json:"detail"`
}

// Signed is a report with what proves whose it is.
type Signed struct {
	// Statement is the document.
	Statement []byte `json:"statement"`
	// Signature is ECDSA over its SHA-256, ASN.1.
	Signature []byte `json:"signature"`
	// Certificate of the key that signed, DER.
	Certificate []byte `json:"certificate"`
}
