package scrub

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/check"
)

// fillIn puts a report into the catalog's words.
func fillIn(to *catalog.Check, r *check.Report) {
	to.Sample, to.Seed, to.Resumed, to.Started = r.Sample, r.Seed, r.Resumed, r.Started
	to.Message = r.Summary()
	to.Snapshots, to.Packs, to.Chunks = r.SnapshotsChecked, r.PacksChecked, r.ChunksChecked
	to.PacksRead, to.FramesRead, to.BytesRead = r.PacksRead, r.FramesRead, r.BytesRead
	to.Harm, to.FindingsTotal = r.Harm, int64(len(r.Findings))+r.FindingsMore
	to.HurtTotal, to.Untraced = int64(len(r.Snapshots))+r.SnapshotsMore, r.Untraced
	to.Findings, to.Hurt = nil, nil
	// What is harmless comes last: the record has room for the first ones only.
	for _, harmless := range []bool{false, true} {
		for _, f := range r.Findings {
			if f.Harmless == harmless {
				to.Findings = append(to.Findings, finding(f))
			}
		}
	}
	for _, h := range r.Snapshots {
		to.Hurt = append(to.Hurt, catalog.HurtSnapshot{Snapshot: h.Snapshot, Instance: h.Instance, Whole: h.Whole, Objects: h.Objects})
	}
}

func finding(f check.Finding) catalog.CheckFinding {
	out := catalog.CheckFinding{Object: f.Object, Problem: string(f.Problem), Detail: f.Detail, Harmless: f.Harmless, Chunks: f.Chunks, EffectsMore: f.EffectsMore}
	for _, e := range f.Effects {
		out.Effects = append(out.Effects, catalog.CheckEffect{Snapshot: e.Snapshot, Instance: e.Instance, Database: e.Database, Object: e.Object})
	}
	return out
}
