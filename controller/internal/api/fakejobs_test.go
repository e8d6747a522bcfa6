package api_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// fakeJobs is a job manager in memory: attempts belong to agents, the newest
// fencing number counts, results are kept once.
type fakeJobs struct {
	hub *fleet.Hub

	mu       sync.Mutex
	queue    map[repo.AgentID][]job.Offer
	owner    map[job.Ref]repo.AgentID
	newest   map[repo.JobID]repo.Fence
	running  map[job.Ref]bool
	results  map[job.Ref]catalog.Result
	drills   map[job.Ref]*catalog.DrillReport
	accepted []job.Ref
	rejected map[job.Ref]string
	lines    []catalog.LogLine
	progress map[job.Ref]job.Progress
	extended map[job.Ref]time.Time
	reports  int
	created  map[repo.JobID]job.Spec
	revoked  []repo.AgentID
	fail     error         // what Result answers, if set
	hang     chan struct{} // Log and Result wait for it to be closed, if set
	counter  uint64
}

func newFakeJobs() *fakeJobs {
	return &fakeJobs{queue: map[repo.AgentID][]job.Offer{}, owner: map[job.Ref]repo.AgentID{}, newest: map[repo.JobID]repo.Fence{},
		running: map[job.Ref]bool{}, results: map[job.Ref]catalog.Result{}, drills: map[job.Ref]*catalog.DrillReport{}, rejected: map[job.Ref]string{},
		progress: map[job.Ref]job.Progress{}, extended: map[job.Ref]time.Time{}, created: map[repo.JobID]job.Spec{}}
}

// give queues a backup of the instance for its agent.
func (f *fakeJobs) give(i catalog.Instance, id repo.JobID) job.Ref {
	f.mu.Lock()
	f.counter++
	ref := job.Ref{Job: id, Fence: repo.Fence{Epoch: 1, Counter: f.counter}}
	f.queue[i.Agent] = append(f.queue[i.Agent], job.Offer{Ref: ref, Instance: i, Domain: i.Domain,
		Job: catalog.Job{ID: id, Kind: catalog.JobBackup, Instance: i.ID, InstanceName: i.FullName(), Agent: i.Agent, Backup: &catalog.BackupSpec{}, Current: ref.Fence}})
	f.owner[ref], f.newest[id] = i.Agent, ref.Fence
	f.mu.Unlock()
	f.hub.Wake(i.Agent)
	return ref
}

func (f *fakeJobs) Lease(_ context.Context, agent repo.AgentID) (job.Offer, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue[agent]) == 0 {
		return job.Offer{}, false, nil
	}
	o := f.queue[agent][0]
	f.queue[agent] = f.queue[agent][1:]
	return o, true, nil
}

// checkLocked refuses what is not the agent's, and what is no longer current.
func (f *fakeJobs) checkLocked(agent repo.AgentID, ref job.Ref) error {
	owner, ok := f.owner[ref]
	switch {
	case !ok:
		return fmt.Errorf("job %s: %w", ref.Job, errs.NotFound)
	case owner != agent:
		return fmt.Errorf("job %s is not of this agent: %w", ref.Job, errs.Denied)
	case f.newest[ref.Job] != ref.Fence:
		return fmt.Errorf("job %s has a newer attempt: %w", ref.Job, errs.Conflict)
	}
	return nil
}

func (f *fakeJobs) Accept(_ context.Context, agent repo.AgentID, ref job.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkLocked(agent, ref); err != nil {
		return err
	}
	f.accepted = append(f.accepted, ref)
	f.running[ref] = true
	return nil
}

func (f *fakeJobs) Reject(_ context.Context, agent repo.AgentID, ref job.Ref, reason string, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkLocked(agent, ref); err != nil {
		return err
	}
	f.rejected[ref] = reason
	return nil
}

func (f *fakeJobs) Progress(agent repo.AgentID, ref job.Ref, p job.Progress) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkLocked(agent, ref); err != nil {
		return err
	}
	f.progress[ref] = p
	return nil
}

func (f *fakeJobs) Log(_ context.Context, agent repo.AgentID, ref job.Ref, lines ...catalog.LogLine) error {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkLocked(agent, ref); err != nil {
		return err
	}
	f.lines = append(f.lines, lines...)
	return nil
}

// wait is the journal hanging.
func (f *fakeJobs) wait() {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

// hangs makes the journal hang until the answer is called.
func (f *fakeJobs) hangs() (goOn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hang := make(chan struct{})
	f.hang = hang
	return func() { close(hang) }
}

func (f *fakeJobs) Result(_ context.Context, agent repo.AgentID, ref job.Ref, r catalog.Result, drill *catalog.DrillReport) error {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports++
	if f.fail != nil {
		return f.fail
	}
	err := f.checkLocked(agent, ref)
	if errors.Is(err, errs.Conflict) {
		return nil // late: the agent may forget it, and it does not count
	} else if err != nil {
		return err
	}
	if _, dup := f.results[ref]; !dup {
		f.results[ref], f.drills[ref] = r, drill
	}
	delete(f.running, ref)
	return nil
}

func (f *fakeJobs) ExtendLease(_ context.Context, agent repo.AgentID, running []job.Ref) (abandon []job.Ref, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ref := range running {
		if f.checkLocked(agent, ref) != nil {
			abandon = append(abandon, ref)
			continue
		}
		f.extended[ref] = time.Now()
	}
	return abandon, nil
}

func (f *fakeJobs) Reconcile(ctx context.Context, agent repo.AgentID, running []job.Ref) ([]job.Ref, error) {
	abandon, err := f.ExtendLease(ctx, agent, running)
	f.mu.Lock()
	defer f.mu.Unlock()
	for ref := range f.running {
		if f.owner[ref] == agent {
			f.running[ref] = false
		}
	}
	for _, ref := range running {
		if f.owner[ref] == agent {
			f.running[ref] = true
		}
	}
	return abandon, err
}

func (f *fakeJobs) Create(_ context.Context, spec job.Spec) (catalog.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.created[spec.ID] = spec
	kind := catalog.JobBackup
	if spec.Restore != nil {
		kind = catalog.JobRestore
	}
	if spec.Drill != nil {
		kind = catalog.JobDrill
	}
	return catalog.Job{ID: spec.ID, Kind: kind, State: catalog.JobQueued, Instance: spec.Instance, Backup: spec.Backup, Restore: spec.Restore, Drill: spec.Drill, Agent: spec.Agent, CreatedBy: spec.By}, nil
}

func (f *fakeJobs) Cancel(_ context.Context, id repo.JobID, by, reason string) (catalog.Job, error) {
	return catalog.Job{ID: id, CancelRequested: true, CancelBy: by, CancelReason: reason}, nil
}

func (f *fakeJobs) Get(_ context.Context, id repo.JobID) (job.View, error) {
	return job.View{Job: catalog.Job{ID: id}}, nil
}

func (f *fakeJobs) Watch(_ context.Context, id repo.JobID, fn func(job.View) error) error {
	return fn(job.View{Job: catalog.Job{ID: id, State: catalog.JobSucceeded}})
}

// Running gives every attempt that has told of its progress.
func (f *fakeJobs) Running() []job.Running {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []job.Running
	for ref, p := range f.progress {
		all = append(all, job.Running{Ref: ref, Kind: catalog.JobBackup, Agent: f.owner[ref], Instance: "db1/main", Progress: p})
	}
	return all
}

func (f *fakeJobs) Live(repo.JobID) (job.Progress, bool) { return job.Progress{}, false }

func (f *fakeJobs) Revoke(_ context.Context, agent repo.AgentID, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked = append(f.revoked, agent)
	return nil
}
