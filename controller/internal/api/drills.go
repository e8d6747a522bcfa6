package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/drill"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Bounds of what may be asked of a drill.
const (
	maxAssertionName = 200
	maxAssertionSQL  = 8 << 10
	minDrillTime     = time.Minute
	maxDrillTime     = 7 * 24 * time.Hour
	// shownDrills is how many reports stand beside a snapshot.
	shownDrills = 5
)

// VerifySnapshot journals a drill and queues it for the agent that can hold it
// best. When no agent can, nothing is journaled and the error says why of each:
// a drill that nobody can hold must not look like one that waits its turn.
func (s *snapshotService) VerifySnapshot(ctx context.Context, r *tuskvaultv1.VerifySnapshotRequest) (*tuskvaultv1.VerifySnapshotResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id, err := parseRequestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	spec, err := parseDrill(r)
	if err != nil {
		return nil, err
	}
	var snapshot catalog.Snapshot
	var earlier catalog.Job
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if earlier, err = tx.Job(id); err == nil && earlier.Drill != nil {
			snapshot, err = tx.Snapshot(earlier.Drill.Snapshot)
			return err
		} else if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		snapshot, err = findSnapshot(tx, r.GetSnapshot())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("verify snapshot: %w", err)
	}
	spec.Snapshot = snapshot.ID
	agent := earlier.Agent
	if earlier.Drill != nil { // asked again: where it is held was decided the first time
		spec.AgentName, spec.Placement = earlier.Drill.AgentName, earlier.Drill.Placement
	} else if agent, err = s.place(ctx, snapshot, &spec, r.GetAgent()); err != nil {
		return nil, fmt.Errorf("verify snapshot %s: %w", snapshot.ID.Short(), err)
	}
	j, err := s.deps.Jobs.Create(ctx, job.Spec{ID: id, Instance: snapshot.Instance, Agent: agent, Drill: &spec, By: c.String()})
	if err == nil {
		err = s.deps.Trail.Record(ctx, record(c, "job.drill", "job "+j.ID.String(), drillDetail(snapshot, spec)))
	}
	if err != nil {
		return nil, fmt.Errorf("verify snapshot %s: %w", snapshot.ID.Short(), err)
	}
	return &tuskvaultv1.VerifySnapshotResponse{Job: (&jobService{deps: s.deps}).job(j), Warnings: forgottenWarning(snapshot)}, nil
}

// drillDetail says for the audit trail what was asked for, who gets the keys of
// the snapshot's domain for it, and which queries will be run.
func drillDetail(snapshot catalog.Snapshot, spec catalog.DrillSpec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %s of %s on agent %s", snapshot.ID, snapshot.InstanceName, spec.AgentName)
	if len(spec.Databases) > 0 {
		fmt.Fprintf(&b, ", databases %s", strings.Join(spec.Databases, ", "))
	}
	if len(spec.Placement) > 0 {
		fmt.Fprintf(&b, "; %s", spec.Placement[0])
	}
	for _, a := range spec.Assertions {
		fmt.Fprintf(&b, "; assertion in %s: %s", a.Database, clip(a.SQL, 500))
	}
	return clip(b.String(), 16<<10)
}

// parseDrill checks what is asked for.
func parseDrill(r *tuskvaultv1.VerifySnapshotRequest) (catalog.DrillSpec, error) {
	spec := catalog.DrillSpec{Databases: r.GetDatabases(), Jobs: r.GetJobs(), KeepGoing: r.GetKeepGoing(), Timeout: fromDuration(r.GetTimeout())}
	if err := checkWorkers("jobs", spec.Jobs); err != nil {
		return spec, err
	}
	if t := spec.Timeout; t != 0 && (t < minDrillTime || t > maxDrillTime) {
		return spec, field("timeout", "%s: want %s to %s", t, minDrillTime, maxDrillTime)
	}
	if n := len(spec.Databases); n > report.MaxDatabases {
		return spec, field("databases", "%d entries, at most %d are taken", n, report.MaxDatabases)
	}
	seen := map[string]bool{}
	for _, name := range spec.Databases {
		if err := checkReference("databases", name); err != nil {
			return spec, err
		}
		if seen[name] {
			return spec, field("databases", "%s is there twice", name)
		}
		seen[name] = true
	}
	if n := len(r.GetAssertions()); n > report.MaxAssertions {
		return spec, field("assertions", "%d entries, at most %d are taken", n, report.MaxAssertions)
	}
	for i, a := range r.GetAssertions() {
		out := catalog.Assertion{Database: a.GetDatabase(), Name: a.GetName(), SQL: strings.TrimSpace(a.GetSql()), Expect: a.GetExpect()}
		if out.Name == "" {
			out.Name = fmt.Sprintf("%d: %s", i+1, clip(strings.Join(strings.Fields(out.SQL), " "), 80))
		}
		if err := checkAssertion(out, seen[out.Database+"\x00"+out.Name]); err != nil {
			return spec, err
		}
		seen[out.Database+"\x00"+out.Name] = true
		spec.Assertions = append(spec.Assertions, out)
	}
	return spec, nil
}

func checkAssertion(a catalog.Assertion, twice bool) error {
	if err := checkReference("assertions.database", a.Database); err != nil {
		return err
	}
	control := func(r rune) bool { return r < 0x20 || r == 0x7f }
	switch {
	case a.SQL == "":
		return field("assertions.sql", "assertion %q has no query", clip(a.Name, 60))
	case len(a.SQL) > maxAssertionSQL || len(a.Expect) > report.MaxText || !utf8.ValidString(a.SQL+a.Expect) || strings.Contains(a.SQL+a.Expect, "\x00"):
		return field("assertions", "assertion %q: want at most %d bytes of text as its query and %d as its value", clip(a.Name, 60), maxAssertionSQL, report.MaxText)
	case len(a.Name) > maxAssertionName || !utf8.ValidString(a.Name) || strings.ContainsFunc(a.Name, control):
		return field("assertions.name", "want at most %d bytes of text", maxAssertionName)
	case twice:
		return field("assertions.name", "two assertions in database %s are called %q", a.Database, a.Name)
	}
	return nil
}

// place chooses the agent and notes why in the spec.
func (s *snapshotService) place(ctx context.Context, snapshot catalog.Snapshot, spec *catalog.DrillSpec, named string) (repo.AgentID, error) {
	content, err := s.cache.content(ctx, snapshot)
	if err != nil {
		return repo.AgentID{}, fmt.Errorf("read manifest: %w", err)
	}
	wish, err := wishOf(content, snapshot, spec)
	if err != nil {
		return repo.AgentID{}, err
	}
	var all []drill.Candidate
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		if named != "" {
			a, err := findAgent(tx, "agent", named)
			if err != nil {
				return err
			}
			wish.Agent = a.Name
		}
		var err error
		all, err = s.candidates(tx, snapshot)
		return err
	})
	if err != nil {
		return repo.AgentID{}, err
	}
	choice, err := drill.Place(wish, all)
	if err != nil {
		return repo.AgentID{}, err
	}
	spec.AgentName, spec.Placement = choice.Agent.Name, choice.Lines
	return choice.Agent.ID, nil
}

// wishOf finds in the manifest what the databases asked for need of a host.
func wishOf(content *repo.Content, snapshot catalog.Snapshot, spec *catalog.DrillSpec) (drill.Wish, error) {
	w := drill.Wish{Version: snapshot.ServerVersion}
	if content.Logical == nil {
		return w, fmt.Errorf("snapshot of kind %q: %w", content.Kind, errs.Unsupported)
	}
	var names []string
	for i := range content.Logical.Databases {
		d := &content.Logical.Databases[i]
		name := d.Name.Display()
		names = append(names, name)
		if len(spec.Databases) > 0 && !slices.Contains(spec.Databases, name) {
			continue
		}
		var heap int64
		for _, t := range d.Tables {
			heap += t.Pages * int64(content.Instance.BlockSize)
		}
		if d.LargeObjects != nil {
			heap += d.LargeObjects.Data.Bytes
		}
		w.HeapBytes = max(w.HeapBytes, heap)
		for _, x := range d.Extensions {
			w.Extensions = append(w.Extensions, x.Name.Display())
		}
	}
	for _, name := range spec.Databases {
		if !slices.Contains(names, name) {
			return w, notFound("database", name, names)
		}
	}
	for _, a := range spec.Assertions {
		if !slices.Contains(names, a.Database) {
			return w, notFound("database", a.Database, names)
		}
		if len(spec.Databases) > 0 && !slices.Contains(spec.Databases, a.Database) {
			return w, field("assertions", "database %s is not among those that are restored", a.Database)
		}
	}
	return w, nil
}

// candidates are all agents that may hold drills of the snapshot, and why the
// others may not is not told: they have nothing to do with it.
func (s *snapshotService) candidates(tx *catalog.Tx, snapshot catalog.Snapshot) ([]drill.Candidate, error) {
	busy := map[repo.AgentID]bool{}
	for j, err := range tx.JobsIn(catalog.JobQueued, catalog.JobLeased, catalog.JobRunning) {
		if err != nil {
			return nil, err
		}
		if j.Drill != nil {
			busy[j.Agent] = true
		}
	}
	var all []drill.Candidate
	err := each(func(p catalog.Page) ([]catalog.Agent, string, error) { return tx.Agents(p, nil) }, func(a catalog.Agent) error {
		instances, err := tx.InstancesOf(a.Name)
		if err != nil {
			return err
		}
		c := drill.Candidate{Agent: a, Ties: drill.TiesOf(a, instances, snapshot.Instance, snapshot.Domain), Busy: busy[a.ID]}
		if !c.Ties.Permitted() {
			return nil
		}
		c.Online = s.deps.Hub.Online(a.ID)
		if c.Inventory, err = tx.Inventory(a.ID); err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		all = append(all, c)
		return nil
	})
	return all, err
}

// ListDrillReports gives the reports of a snapshot's drills, newest first.
func (s *snapshotService) ListDrillReports(ctx context.Context, r *tuskvaultv1.ListDrillReportsRequest) (*tuskvaultv1.ListDrillReportsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListDrillReportsResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		snapshot, err := findSnapshot(tx, r.GetSnapshot())
		if err != nil {
			return err
		}
		drills, err := tx.Drills(snapshot.ID)
		if err != nil {
			return err
		}
		for len(drills) > 0 && page.Token != "" && drills[0].Job.String() != page.Token {
			drills = drills[1:]
		}
		bytes := 0
		for i, d := range drills {
			if i == page.Size || i > 0 && bytes > maxPageBytes {
				out.Page = toPage(d.Job.String()) // the first of the next page
				return nil
			}
			signed, err := tx.DrillReport(snapshot.ID, d.Job)
			if err != nil {
				return err
			}
			wire := toDrillReport(d, signed)
			out.Reports = append(out.Reports, wire)
			bytes += proto.Size(wire)
		}
		out.Page = toPage("")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list drill reports: %w", err)
	}
	return out, nil
}

// addDrills adds the newest reports to a snapshot, without their long parts.
func (s *snapshotService) addDrills(ctx context.Context, out *tuskvaultv1.GetSnapshotResponse, snapshot catalog.Snapshot) error {
	return s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		drills, err := tx.Drills(snapshot.ID)
		if err != nil {
			return err
		}
		verified(out.Snapshot, drills)
		for _, d := range drills[:min(len(drills), shownDrills)] {
			signed, err := tx.DrillReport(snapshot.ID, d.Job)
			if err != nil {
				return err
			}
			wire := toDrillReport(d, signed)
			wire.Statement, wire.Signature, wire.Certificate = nil, nil, nil
			for _, b := range wire.GetDatabases() {
				b.Tables = nil
			}
			out.Drills = append(out.Drills, wire)
		}
		return nil
	})
}

// verified adds to a snapshot what its drills say, the newest of which is first.
// Only a drill of the whole snapshot verifies it.
func verified(out *tuskvaultv1.Snapshot, drills []catalog.Drill) *tuskvaultv1.Snapshot {
	for i, d := range drills {
		if i == 0 {
			out.LastDrillVerdict = d.Verdict
		}
		if d.Whole && d.Verdict == catalog.DrillPassed {
			out.VerifyTime = toTime(d.Received)
			break
		}
	}
	return out
}

// withReport adds the report of a drill to its job, without the signed bytes.
func (s *jobService) withReport(ctx context.Context, out *tuskvaultv1.Job, j catalog.Job) error {
	if j.Drill == nil || j.Result == nil || j.Result.DrillVerdict == "" {
		return nil
	}
	return s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		signed, err := tx.DrillReport(j.SnapshotID, j.ID)
		if errors.Is(err, errs.NotFound) {
			return nil // so old that it is not kept
		} else if err != nil {
			return err
		}
		out.Result.Drill = toDrillReport(catalog.Drill{Snapshot: j.SnapshotID, Job: j.ID, AgentName: j.Drill.AgentName, Verdict: j.Result.DrillVerdict}, signed)
		out.Result.Drill.Statement, out.Result.Drill.Signature, out.Result.Drill.Certificate = nil, nil, nil
		return nil
	})
}

// SetAgentDrills gives an agent the role drill, or takes it away.
func (s *fleetService) SetAgentDrills(ctx context.Context, r *tuskvaultv1.SetAgentDrillsRequest) (*tuskvaultv1.SetAgentDrillsResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.SetAgentDrillsResponse{}
	// Synchronously: who may be given the keys of other domains must not be forgotten.
	err = s.deps.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		a, err := findAgent(tx, "agent", r.GetAgent())
		if err != nil {
			return err
		}
		if r.GetDrills() && a.State != catalog.AgentActive {
			return fmt.Errorf("agent %s is %s: %w", a.Name, a.State, errs.Conflict)
		}
		a.Drills = r.GetDrills()
		if err := tx.PutAgent(a); err != nil {
			return err
		}
		detail := "may hold drills of snapshots of any domain"
		if !a.Drills {
			detail = "may hold drills of its own domains only"
		}
		if err := s.deps.Trail.Append(tx, record(c, "agent.drills", "agent "+a.Name, detail)); err != nil {
			return err
		}
		out.Agent, err = s.agent(tx, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("set the role drill: %w", err)
	}
	return out, nil
}
