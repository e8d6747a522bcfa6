package job

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/drill"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/report"
)

// withdrawn ends a drill whose agent may no longer hold it: between the asking
// and now it may have lost the role, or left the snapshot's domain, and the keys
// of the domain go to nobody else.
func (c *change) withdrawn() (bool, error) {
	if c.job.Kind != catalog.JobDrill {
		return false, nil
	}
	agent, err := c.tx.Agent(c.job.Agent)
	if err != nil {
		return false, err
	}
	instances, err := c.tx.InstancesOf(agent.Name)
	if err != nil {
		return false, err
	}
	snapshot, err := c.tx.Snapshot(c.job.SnapshotID)
	if err != nil {
		return false, err
	}
	if drill.TiesOf(agent, instances, snapshot.Instance, snapshot.Domain).Permitted() {
		return false, nil
	}
	return true, c.fire(EventRevoked, fmt.Sprintf("agent %s may no longer hold drills of this snapshot", agent.Name))
}

// readDrill reads a report outside of the transaction; why says what is wrong
// with it, if something is.
func readDrill(sent *catalog.DrillReport) (r *report.Report, why error) {
	if sent == nil {
		return nil, nil
	}
	return report.Signed{Statement: sent.Statement, Signature: sent.Signature, Certificate: sent.Certificate}.Verify()
}

// takeDrill records the report of a drill in the transaction that ends its
// attempt, and sets the result's verdict from it and from nothing else. A report
// that does not count makes a result without a verdict, which is never success.
func (c *change) takeDrill(r *catalog.Result, sent *catalog.DrillReport, found *report.Report, why error) error {
	r.DrillVerdict = ""
	if c.job.Kind != catalog.JobDrill || sent == nil {
		return nil
	}
	agent, err := c.tx.Agent(c.job.Agent)
	if err != nil {
		return err
	}
	snapshot, err := c.tx.Snapshot(c.job.SnapshotID)
	if err != nil {
		return err
	}
	if why == nil {
		why = c.fits(found, agent, snapshot, sent.Certificate)
	}
	if why != nil {
		r.Outcome, r.Retryable = catalog.OutcomeFailed, false
		r.Error = clip("the report of the drill does not count: " + why.Error())
		return c.note("error", "%s", r.Error)
	}
	if r.DrillVerdict = string(found.Verdict); r.Error == "" && found.Verdict != report.Passed {
		r.Error = clip(found.Reason)
	}
	return c.tx.PutDrill(catalog.Drill{Snapshot: snapshot.ID, Job: c.job.ID, Fence: c.job.Current, Agent: agent.ID, AgentName: agent.Name,
		Verdict: string(found.Verdict), WithoutAmcheck: found.WithoutAmcheck(), Whole: len(found.Asked) == 0, Ended: found.Ended, Received: c.now}, *sent)
}

// fits tells whether a report is the one of this attempt: signed by a
// certificate that is good for the agent now, about this snapshot, and, when it
// says passed, with as much in it as the snapshot has.
func (c *change) fits(r *report.Report, agent catalog.Agent, snapshot catalog.Snapshot, certificate []byte) error {
	print := sha256.Sum256(certificate)
	switch {
	case agent.State != catalog.AgentActive || !slices.ContainsFunc(agent.Certificates, func(k catalog.Certificate) bool { return k.Fingerprint == print }):
		return fmt.Errorf("its certificate is not one of the agent's good ones: %w", errs.Denied)
	case r.Job != c.job.ID.String() || r.Attempt != c.job.Current.String() || r.Agent != agent.ID.String():
		return fmt.Errorf("it is of another attempt or agent: %w", errs.Denied)
	case r.Snapshot != snapshot.ID.String() || !slices.Equal(r.Asked, c.job.Drill.Databases):
		return fmt.Errorf("it is of another snapshot or of other databases: %w", errs.Invalid)
	case r.Verdict != report.Passed:
		return nil
	}
	return covers(r, *c.job.Drill, snapshot)
}

// covers tells whether a report that says passed speaks of everything that was
// to be proved.
func covers(r *report.Report, asked catalog.DrillSpec, snapshot catalog.Snapshot) error {
	var rows int64
	proved := map[string]*report.Database{}
	for i := range r.Databases {
		proved[r.Databases[i].Name] = &r.Databases[i]
		rows += r.Databases[i].Rows
	}
	if len(asked.Databases) == 0 && (len(proved) != int(snapshot.Databases) || rows != snapshot.Rows) {
		return fmt.Errorf("it passes %d databases with %d rows, the snapshot has %d with %d: %w", len(proved), rows, snapshot.Databases, snapshot.Rows, errs.Invalid)
	}
	for _, name := range asked.Databases {
		if proved[name] == nil {
			return fmt.Errorf("it says nothing of database %s: %w", name, errs.Invalid)
		}
	}
	for _, a := range asked.Assertions {
		d := proved[a.Database]
		if d == nil || !slices.ContainsFunc(d.Assertions, func(x report.Assertion) bool { return x.Name == a.Name && x.Result == report.Holds }) {
			return fmt.Errorf("it says nothing of assertion %q in database %s: %w", a.Name, a.Database, errs.Invalid)
		}
	}
	return nil
}

// drillVerdict tells what a drill's report means for its job: only one that was
// taken, and says passed, is success.
func drillVerdict(r catalog.Result, why string) (Event, string) {
	switch {
	case r.DrillVerdict == string(report.Passed) && r.Outcome == catalog.OutcomeSucceeded:
		return EventSucceeded, ""
	case r.DrillVerdict == "" && r.Outcome == catalog.OutcomeSucceeded:
		return EventFailedForGood, "the agent reported success without a report"
	case r.DrillVerdict == string(report.Failed), !r.Retryable:
		return EventFailedForGood, why
	}
	return EventFailed, why
}
