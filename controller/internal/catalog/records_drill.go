package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
)

// DrillSpec says which snapshot to prove, and what must hold.
type DrillSpec struct {
	// Snapshot to restore.
	Snapshot repo.JobID
	// Databases in display form; empty means all.
	Databases []string
	// Jobs is the number of parallel streams; 0 lets the agent choose.
	Jobs int32
	// Assertions that must hold in the restored databases.
	Assertions []Assertion
	// Timeout bounds the whole; 0 lets the agent choose.
	Timeout time.Duration
	// KeepGoing goes on with the other databases after one that did not pass.
	KeepGoing bool
	// AgentName is the agent that was chosen, Placement why that one and none of the others.
	AgentName string
	Placement []string
}

// Assertion is a query and what it must give: Expect as text, or, when that is
// empty, a boolean that is true.
type Assertion struct{ Database, Name, SQL, Expect string }

// Drill is the result of one drill, in short. The newest attempt of a job that
// sent a report counts.
type Drill struct {
	// Snapshot that was restored, by Job in the attempt of Fence.
	Snapshot repo.JobID
	Job      repo.JobID
	Fence    repo.Fence
	// Agent that held it, by id and name.
	Agent     repo.AgentID
	AgentName string
	// Verdict is "passed", "failed" or "incomplete".
	Verdict string
	// WithoutAmcheck tells that pg_amcheck did not run everywhere.
	WithoutAmcheck bool
	// Whole tells that no database of the snapshot was left out.
	Whole bool
	// Ended by the agent's clock, Received by ours.
	Ended, Received time.Time
}

// DrillReport is the signed report of a drill: see package report.
type DrillReport struct {
	// Statement is the document, Signature over it, Certificate (DER) of the key that signed.
	Statement, Signature, Certificate []byte
}
