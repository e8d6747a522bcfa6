package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// run runs once over the domains and notes what became of it.
func (r *Runner) run(ctx context.Context, spec Spec) {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	if r.cancel = cancel; r.canceled {
		cancel(errCanceled)
	}
	run := r.state.PruneRun
	r.mu.Unlock()
	r.pruner.Log.Info("pruning", zap.Stringer("run", spec.ID), zap.Bool("dry_run", spec.DryRun), zap.Int("domains_named", len(spec.Domains)))
	domains, err := r.domains(own, spec)
	for i, id := range domains {
		r.tell(Progress{Domain: id, DomainsDone: i, Domains: len(domains)})
		var o catalog.PruneOutcome
		o, err = r.one(own, id, spec)
		if run.Outcomes = append(run.Outcomes, o); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return // the next start says so
	}
	if ballastErr := r.keepBallast(own); ballastErr != nil {
		r.pruner.Log.Warn("ballast is not there", zap.Error(ballastErr))
	}
	for r.end(ctx, outcome(run, err)) != nil && ctx.Err() == nil {
		wait(ctx, retryEvery)
	}
}

// one prunes one domain. A problem of one is none of the others; the end of the
// run, or a pause of deletion, is everybody's. That a domain was erased meanwhile
// is no problem.
func (r *Runner) one(ctx context.Context, id seal.DomainID, spec Spec) (catalog.PruneOutcome, error) {
	o, err := r.pruner.domain(ctx, id, spec, !spec.continuing)
	if ctx.Err() != nil {
		return o, context.Cause(ctx)
	}
	if err != nil && r.pruner.erased(ctx, id) {
		r.pruner.Log.Info("domain is erased, nothing is left to prune", zap.Stringer("domain", id), zap.Error(err))
		o, err = catalog.PruneOutcome{Domain: id}, nil
	}
	if err != nil {
		o.Problem = err.Error()
		r.pruner.Log.Error("domain could not be pruned", zap.Stringer("domain", id), zap.Error(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pausing, id)
	if err != nil || o.DeferredPacks > 0 {
		r.pausing[id] = time.Now().Add(pauseAfter)
	}
	if delete(r.problems, id); err != nil && !spec.DryRun {
		r.problems[id] = o.Problem
	}
	return o, nil
}

func (r *Runner) keepBallast(ctx context.Context) error {
	if r.pruner.Ballast == nil {
		return nil
	}
	return r.pruner.Ballast.Keep(ctx)
}

func (r *Runner) tell(p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Progress = p
	r.wakeLocked()
}

// domains gives those that a run looks at.
func (r *Runner) domains(ctx context.Context, spec Spec) (out []seal.DomainID, err error) {
	if len(spec.Domains) > 0 {
		return spec.Domains, nil
	}
	err = r.pruner.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if spec.By == background {
			out, err = r.ready(tx, spec)
			return err
		}
		prunes, err := tx.Prunes()
		if err != nil {
			return err
		}
		needs, err := tx.PruneNeeds()
		for _, one := range prunes {
			out = append(out, one.Domain)
		}
		for _, n := range needs {
			out = append(out, n.Domain)
		}
		return err
	})
	slices.SortFunc(out, func(a, b seal.DomainID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out), err
}

// outcome makes the record of a run that has ended.
func outcome(run catalog.PruneRun, err error) catalog.PruneRun {
	run.Ended = now()
	var freed, waiting, condemned int64
	problems := 0
	for _, o := range run.Outcomes {
		freed, waiting, condemned = freed+o.FreedBytes, waiting+o.WaitingBytes, condemned+o.DeadBytes+o.RepackBytes-o.RepackLive
		if o.Problem != "" {
			problems++
		}
	}
	switch {
	case errors.Is(err, errs.Canceled):
		run.State, run.Message = catalog.PruneCanceled, err.Error()
	case err != nil:
		run.State, run.Message = catalog.PruneFailed, err.Error()
	case problems > 0:
		run.State, run.Message = catalog.PruneFailed, fmt.Sprintf("%d of %d domains could not be pruned", problems, len(run.Outcomes))
	case len(run.Outcomes) == 0:
		run.State, run.Message = catalog.PruneDone, "nothing was forgotten since the last prune"
	case run.DryRun:
		run.State, run.Message = catalog.PruneDone, fmt.Sprintf("would free %d bytes in %d domains", condemned, len(run.Outcomes))
	default:
		run.State, run.Message = catalog.PruneDone, fmt.Sprintf("%d bytes freed, %d bytes condemned that wait", freed, waiting)
	}
	return run
}

// end writes the record of a run, with its audit record.
func (r *Runner) end(ctx context.Context, run catalog.PruneRun) error {
	err := r.pruner.Catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutPruneRun(run), r.pruner.Trail.Append(tx, catalog.AuditRecord{Actor: run.By, Action: "repository.prune-end", Object: "prune " + run.ID.String(),
			Outcome: run.State.String(), Detail: run.Message}))
	})
	if err != nil {
		r.pruner.Log.Warn("prune has ended and could not be noted, will try again", zap.Error(err))
		return err
	}
	r.mu.Lock()
	r.state, r.cancel = State{PruneRun: run}, nil
	r.wakeLocked()
	r.mu.Unlock()
	r.pruner.Log.Info("prune ended", zap.Stringer("run", run.ID), zap.Stringer("state", run.State), logging.Duration(run.Ended.Sub(run.Started)), logging.Detail(run.Message))
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
