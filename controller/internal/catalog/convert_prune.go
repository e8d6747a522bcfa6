package catalog

import (
	"fmt"

	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func toPrune(p Prune) *catalogpb.Prune {
	out := &catalogpb.Prune{Id: opaque(p.ID), Domain: opaque(p.Domain), Phase: catalogpb.PrunePhase(p.Phase), By: p.By, Condemned: stamp(p.Condemned),
		Jobs: each(p.Jobs, func(id repo.JobID) []byte { return opaque(id) }), Packs: p.Packs, Bytes: p.Bytes, Copied: p.Copied, Complete: p.Complete, Deferred: p.Deferred}
	if p.Need != nil {
		out.Need = toPruneNeed(*p.Need)
	}
	return out
}

func fromPrune(d *decoder, p *catalogpb.Prune) Prune {
	out := Prune{ID: d.id("id", p.GetId()), Domain: d.domain("domain", p.GetDomain()), Phase: PrunePhase(p.GetPhase()), By: p.GetBy(), Condemned: moment(p.GetCondemned()),
		Jobs:  each(p.GetJobs(), func(b []byte) repo.JobID { return d.id("jobs", b) }),
		Packs: p.GetPacks(), Bytes: p.GetBytes(), Copied: p.GetCopied(), Complete: p.GetComplete(), Deferred: p.GetDeferred()}
	if p.GetNeed() != nil {
		need := fromPruneNeed(d, p.GetNeed())
		out.Need = &need
	}
	return out
}

func toCondemned(ids []PackID) *catalogpb.CondemnedPacks {
	return &catalogpb.CondemnedPacks{Packs: each(ids, func(id PackID) []byte { return id[:] })}
}

func fromCondemned(d *decoder, p *catalogpb.CondemnedPacks) []PackID {
	return each(p.GetPacks(), func(b []byte) PackID {
		if len(b) == 0 && d.err == nil {
			d.err = fmt.Errorf("field packs has an empty id: %w", errs.Corrupt)
		}
		return d.hash("packs", b)
	})
}

func toPruneRun(r PruneRun) *catalogpb.PruneRun {
	return &catalogpb.PruneRun{Id: opaque(r.ID), State: catalogpb.PruneRunState(r.State), By: r.By, DryRun: r.DryRun, Started: stamp(r.Started), Ended: stamp(r.Ended),
		Message: r.Message, Outcomes: each(r.Outcomes, toPruneOutcome), Domains: each(r.Domains, func(id seal.DomainID) []byte { return opaque(id) }), Budget: r.Budget}
}

func fromPruneRun(d *decoder, r *catalogpb.PruneRun) PruneRun {
	return PruneRun{ID: d.id("id", r.GetId()), State: PruneRunState(r.GetState()), By: r.GetBy(), DryRun: r.GetDryRun(), Started: moment(r.GetStarted()), Ended: moment(r.GetEnded()),
		Message:  r.GetMessage(),
		Outcomes: each(r.GetOutcomes(), func(o *catalogpb.PruneOutcome) PruneOutcome { return fromPruneOutcome(d, o) }),
		Domains:  each(r.GetDomains(), func(b []byte) seal.DomainID { return d.domain("domains", b) }), Budget: r.GetBudget()}
}

func toPruneOutcome(o PruneOutcome) *catalogpb.PruneOutcome {
	return &catalogpb.PruneOutcome{Domain: opaque(o.Domain), Packs: o.Packs, Bytes: o.Bytes, Frames: o.Frames, DeadPacks: o.DeadPacks, DeadBytes: o.DeadBytes,
		RepackPacks: o.RepackPacks, RepackBytes: o.RepackBytes, RepackLive: o.RepackLive, LeftBytes: o.LeftBytes, FreedBytes: o.FreedBytes, FreedPacks: o.FreedPacks,
		CopiedBytes: o.CopiedBytes, WaitingPacks: o.WaitingPacks, WaitingBytes: o.WaitingBytes, WaitsFor: o.WaitsFor, Problem: o.Problem, DeferredPacks: o.DeferredPacks}
}

func fromPruneOutcome(d *decoder, o *catalogpb.PruneOutcome) PruneOutcome {
	return PruneOutcome{Domain: d.domain("domain", o.GetDomain()), Packs: o.GetPacks(), Bytes: o.GetBytes(), Frames: o.GetFrames(), DeadPacks: o.GetDeadPacks(), DeadBytes: o.GetDeadBytes(),
		RepackPacks: o.GetRepackPacks(), RepackBytes: o.GetRepackBytes(), RepackLive: o.GetRepackLive(), LeftBytes: o.GetLeftBytes(), FreedBytes: o.GetFreedBytes(), FreedPacks: o.GetFreedPacks(),
		CopiedBytes: o.GetCopiedBytes(), WaitingPacks: o.GetWaitingPacks(), WaitingBytes: o.GetWaitingBytes(), WaitsFor: o.GetWaitsFor(), Problem: o.GetProblem(), DeferredPacks: o.GetDeferredPacks()}
}
