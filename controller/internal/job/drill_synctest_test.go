package job_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// proved is a snapshot of the main instance with two databases and ten rows.
func (w *world) proved() catalog.Snapshot {
	w.t.Helper()
	s := catalog.Snapshot{ID: repo.NewID(), Instance: w.main, Agent: w.agent, Domain: seal.DomainID(repo.NewID()), Kind: repo.KindLogical, Complete: true,
		Committed: time.Now().UTC(), Databases: 2, Rows: 10}
	w.must(w.catalog.Update(w.t.Context(), catalog.Local, func(tx *catalog.Tx) error { return tx.PutSnapshot(s) }))
	return s
}

// drill journals a drill of a snapshot for an agent.
func (w *world) drill(s catalog.Snapshot, agent repo.AgentID, change func(d *catalog.DrillSpec)) repo.JobID {
	w.t.Helper()
	spec := &catalog.DrillSpec{Snapshot: s.ID}
	if change != nil {
		change(spec)
	}
	id := repo.NewID()
	_, err := w.jobs.Create(w.t.Context(), job.Spec{ID: id, Instance: s.Instance, Agent: agent, Drill: spec, By: "operator/test"})
	w.must(err)
	return id
}

// signer is an agent's key with a certificate.
type signer struct {
	key  *ecdsa.PrivateKey
	cert []byte
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, cert}
}

// certify makes the certificate one of the agent's good ones.
func (w *world) certify(agent repo.AgentID, s signer) {
	w.t.Helper()
	w.must(w.catalog.Update(w.t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		a, err := tx.Agent(agent)
		if err != nil {
			return err
		}
		a.Certificates = append(a.Certificates, catalog.Certificate{Fingerprint: sha256.Sum256(s.cert)})
		return tx.PutAgent(a)
	}))
}

// reports is a report that passes, of an attempt.
func (w *world) reports(s catalog.Snapshot, ref job.Ref) *report.Report {
	one := func(name string, rows int64) report.Database {
		return report.Database{Name: name, State: "complete", Restored: true, Rows: rows, Equal: 1, Amcheck: report.AmcheckClean}
	}
	return &report.Report{Job: ref.Job.String(), Attempt: ref.Fence.String(), Agent: w.agent.String(), Snapshot: s.ID.String(),
		Databases: []report.Database{one("a", 4), one("b", 6)}}
}

func (s signer) sign(t *testing.T, r *report.Report) *catalog.DrillReport {
	t.Helper()
	r.Settle()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := report.Sign(b, s.key, s.cert)
	if err != nil {
		t.Fatal(err)
	}
	return &catalog.DrillReport{Statement: out.Statement, Signature: out.Signature, Certificate: out.Certificate}
}

func TestADrillCountsByItsSignedReportAlone(t *testing.T) {
	good, foreign := newSigner(t), newSigner(t)
	done := catalog.Result{Outcome: catalog.OutcomeSucceeded}
	for name, c := range map[string]struct {
		ask    func(d *catalog.DrillSpec)
		result catalog.Result
		change func(r *report.Report)
		by     signer
		spoil  func(r *catalog.DrillReport) *catalog.DrillReport
		want   catalog.JobState
		says   string
		kept   bool
	}{
		"it passed": {result: done, want: catalog.JobSucceeded, kept: true},
		"it failed": {result: catalog.Result{Outcome: catalog.OutcomeFailed, Retryable: true}, change: func(r *report.Report) { r.Databases[0].Differing = 1 },
			want: catalog.JobFailed, says: "1 tables differ", kept: true},
		"it is incomplete, and may be tried again": {result: catalog.Result{Outcome: catalog.OutcomeFailed, Error: "away", Retryable: true},
			change: func(r *report.Report) { r.Databases = nil }, want: catalog.JobQueued, says: "away", kept: true},
		"it is incomplete for good": {result: catalog.Result{Outcome: catalog.OutcomeFailed, Error: "no user"},
			change: func(r *report.Report) { r.Databases = nil }, want: catalog.JobFailed, says: "no user", kept: true},
		"success without a report": {result: done, spoil: func(*catalog.DrillReport) *catalog.DrillReport { return nil }, want: catalog.JobFailed, says: "without a report"},
		"success by word, failed by report": {result: done, change: func(r *report.Report) { r.Databases[1].Amcheck = report.AmcheckDamaged },
			want: catalog.JobFailed, says: "pg_amcheck", kept: true},
		"failed by word, passed by report": {result: catalog.Result{Outcome: catalog.OutcomeFailed, Error: "no"}, want: catalog.JobFailed, says: "no", kept: true},
		"signed by another":                {result: done, by: foreign, want: catalog.JobFailed, says: "not one of the agent's good ones"},
		"changed after it was signed": {result: done, want: catalog.JobFailed, says: "does not fit", spoil: func(r *catalog.DrillReport) *catalog.DrillReport {
			r.Statement = []byte(strings.Replace(string(r.Statement), `"rows":4`, `"rows":5`, 1))
			return r
		}},
		"of another job":      {result: done, change: func(r *report.Report) { r.Job = repo.NewID().String() }, want: catalog.JobFailed, says: "another attempt"},
		"of another attempt":  {result: done, change: func(r *report.Report) { r.Attempt = "7.99" }, want: catalog.JobFailed, says: "another attempt"},
		"of another snapshot": {result: done, change: func(r *report.Report) { r.Snapshot = repo.NewID().String() }, want: catalog.JobFailed, says: "another snapshot"},
		"of fewer databases":  {result: done, change: func(r *report.Report) { r.Asked = []string{"a"} }, want: catalog.JobFailed, says: "other databases"},
		"leaves one out":      {result: done, change: func(r *report.Report) { r.Databases = r.Databases[:1] }, want: catalog.JobFailed, says: "passes 1 databases"},
		"lost rows":           {result: done, change: func(r *report.Report) { r.Databases[0].Rows = 3 }, want: catalog.JobFailed, says: "with 9 rows"},
		"lost an assertion": {ask: func(d *catalog.DrillSpec) {
			d.Assertions = []catalog.Assertion{{Database: "a", Name: "x", SQL: "SELECT true"}}
		},
			result: done, want: catalog.JobFailed, says: `nothing of assertion "x"`},
		"lost a database that was asked for": {ask: func(d *catalog.DrillSpec) { d.Databases = []string{"c"} },
			change: func(r *report.Report) { r.Asked = []string{"c"} }, result: done, want: catalog.JobFailed, says: "nothing of database c"},
	} {
		bubble(t, func(t *testing.T, w *world) {
			w.certify(w.agent, good)
			s := w.proved()
			id := w.drill(s, w.agent, c.ask)
			ref := w.running()
			r := w.reports(s, ref)
			if c.change != nil {
				c.change(r)
			}
			by := c.by
			if by.key == nil {
				by = good
			}
			signed := by.sign(t, r)
			if c.spoil != nil {
				signed = c.spoil(signed)
			}
			w.must(w.jobs.Result(t.Context(), w.agent, ref, c.result, signed))
			j := w.job(id)
			if j.State != c.want || !strings.Contains(j.Message, c.says) {
				t.Errorf("%s: job is %s: %s", name, j.State, j.Message)
			}
			w.must(w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
				drills, err := tx.Drills(s.ID)
				if (len(drills) == 1) != c.kept || c.kept && (drills[0].Verdict != string(r.Verdict) || drills[0].Verdict != j.Result.DrillVerdict || drills[0].AgentName != "db1") {
					t.Errorf("%s: kept %+v", name, drills)
				}
				return err
			}))
		})
	}
}

func TestADrillNeitherWaitsForItsInstanceNorDelaysIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.proved()
		w.backup()
		w.running()
		first := w.drill(s, w.agent, nil)
		if ref := w.running(); ref.Job != first {
			t.Fatalf("leased %s, want the drill", ref.Job)
		}
		w.drill(s, w.agent, nil)
		if o, ok, err := w.jobs.Lease(t.Context(), w.agent); ok || err != nil {
			t.Fatalf("a second drill at once: %v %v", o.Ref, err)
		}
		id := repo.NewID()
		_, err := w.jobs.Create(t.Context(), job.Spec{ID: id, Instance: w.other, Backup: &catalog.BackupSpec{}, By: "operator/test"})
		w.must(err)
		if got := w.lease(); got.Job != id {
			t.Errorf("leased %s, want the backup behind the drill", got.Job)
		}
	})
}

func TestADrillIsHeldByWhomItIsGivenToWhileThatMay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		guest := repo.NewID()
		allow := func(drills bool) {
			w.must(w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
				return tx.PutAgent(catalog.Agent{ID: guest, Name: "guest", State: catalog.AgentActive, Drills: drills})
			}))
		}
		allow(true)
		s := w.proved()
		w.drill(s, guest, nil)
		if _, ok, err := w.jobs.Lease(t.Context(), w.agent); ok || err != nil {
			t.Fatalf("leased to the instance's own agent: %v", err)
		}
		o, ok, err := w.jobs.Lease(t.Context(), guest)
		if err != nil || !ok || o.AgentName != "guest" || o.Domain != s.Domain || o.Snapshot.ID != s.ID {
			t.Fatalf("offer %+v, %v, %v", o, ok, err)
		}
		g, err := w.jobs.Authorize(t.Context(), guest, o.Ref)
		if err != nil || g.Kind != catalog.JobDrill || g.Snapshot.ID != s.ID || g.Domain != s.Domain {
			t.Errorf("grant %+v, %v", g, err)
		}
		w.refused(w.jobs.Committing(t.Context(), o.Ref, [32]byte{1}), errs.Denied)
		w.must(w.jobs.Result(t.Context(), guest, o.Ref, catalog.Result{Outcome: catalog.OutcomeCanceled}, nil))

		allow(false)
		id := w.drill(s, guest, nil)
		if _, ok, err := w.jobs.Lease(t.Context(), guest); ok || err != nil {
			t.Fatalf("leased without the role: %v", err)
		}
		if j := w.is(id, catalog.JobFailed); !strings.Contains(j.Message, "guest may no longer") {
			t.Errorf("message %q", j.Message)
		}
	})
}

func TestADrillAskedForTwiceIsOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.proved()
		spec := job.Spec{ID: repo.NewID(), Instance: w.main, Agent: w.agent, By: "operator/test",
			Drill: &catalog.DrillSpec{Snapshot: s.ID, Databases: []string{"a"}, AgentName: "db1", Placement: []string{"x"}}}
		_, err := w.jobs.Create(t.Context(), spec)
		w.must(err)
		again := *spec.Drill
		again.Placement = nil
		spec.Drill = &again
		_, err = w.jobs.Create(t.Context(), spec)
		w.must(err)
		other := again
		other.Databases = []string{"b"}
		spec.Drill = &other
		_, err = w.jobs.Create(t.Context(), spec)
		w.refused(err, errs.Conflict)
		spec.ID, spec.Instance = repo.NewID(), w.other
		_, err = w.jobs.Create(t.Context(), spec)
		w.refused(err, errs.Invalid)
	})
}
