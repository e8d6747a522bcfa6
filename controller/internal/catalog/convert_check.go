package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func toCheck(c Check) *catalogpb.Check {
	return &catalogpb.Check{
		Id: opaque(c.ID), State: catalogpb.CheckState(c.State), By: c.By, Copy: c.Copy, ReadData: c.ReadData, Sample: int32(c.Sample), Seed: c.Seed,
		Started: stamp(c.Started), Ended: stamp(c.Ended), Message: c.Message, Snapshots: c.Snapshots, Packs: c.Packs, Chunks: c.Chunks,
		PacksRead: c.PacksRead, FramesRead: c.FramesRead, BytesRead: c.BytesRead, Harm: c.Harm, FindingsTotal: c.FindingsTotal,
		Findings: each(c.Findings, toFinding), HurtTotal: c.HurtTotal, Hurt: each(c.Hurt, toHurt), Untraced: c.Untraced, Resumed: c.Resumed,
	}
}

func fromCheck(d *decoder, c *catalogpb.Check) Check {
	return Check{
		ID: d.id("id", c.GetId()), State: CheckState(c.GetState()), By: c.GetBy(), Copy: c.GetCopy(), ReadData: c.GetReadData(), Sample: int(c.GetSample()), Seed: c.GetSeed(),
		Started: moment(c.GetStarted()), Ended: moment(c.GetEnded()), Message: c.GetMessage(), Snapshots: c.GetSnapshots(), Packs: c.GetPacks(), Chunks: c.GetChunks(),
		PacksRead: c.GetPacksRead(), FramesRead: c.GetFramesRead(), BytesRead: c.GetBytesRead(), Harm: c.GetHarm(), FindingsTotal: c.GetFindingsTotal(),
		Findings:  each(c.GetFindings(), func(f *catalogpb.CheckFinding) CheckFinding { return fromFinding(d, f) }),
		HurtTotal: c.GetHurtTotal(), Hurt: each(c.GetHurt(), func(h *catalogpb.HurtSnapshot) HurtSnapshot { return fromHurt(d, h) }),
		Untraced: c.GetUntraced(), Resumed: c.GetResumed(),
	}
}

func toFinding(f CheckFinding) *catalogpb.CheckFinding {
	return &catalogpb.CheckFinding{Object: f.Object, Problem: f.Problem, Detail: f.Detail, Harmless: f.Harmless, Chunks: f.Chunks,
		Effects: each(f.Effects, toEffect), EffectsMore: f.EffectsMore}
}

func fromFinding(d *decoder, f *catalogpb.CheckFinding) CheckFinding {
	return CheckFinding{Object: f.GetObject(), Problem: f.GetProblem(), Detail: f.GetDetail(), Harmless: f.GetHarmless(), Chunks: f.GetChunks(),
		Effects: each(f.GetEffects(), func(e *catalogpb.CheckEffect) CheckEffect { return fromEffect(d, e) }), EffectsMore: f.GetEffectsMore()}
}

func toEffect(e CheckEffect) *catalogpb.CheckEffect {
	return &catalogpb.CheckEffect{Snapshot: opaque(e.Snapshot), Instance: opaque(e.Instance), Database: e.Database, Object: e.Object}
}

func fromEffect(d *decoder, e *catalogpb.CheckEffect) CheckEffect {
	return CheckEffect{Snapshot: d.id("snapshot", e.GetSnapshot()), Instance: d.id("instance", e.GetInstance()), Database: e.GetDatabase(), Object: e.GetObject()}
}

func toHurt(h HurtSnapshot) *catalogpb.HurtSnapshot {
	return &catalogpb.HurtSnapshot{Snapshot: opaque(h.Snapshot), Instance: opaque(h.Instance), Whole: h.Whole, Objects: h.Objects}
}

func fromHurt(d *decoder, h *catalogpb.HurtSnapshot) HurtSnapshot {
	return HurtSnapshot{Snapshot: d.id("snapshot", h.GetSnapshot()), Instance: d.id("instance", h.GetInstance()), Whole: h.GetWhole(), Objects: h.GetObjects()}
}

func toScrub(s Scrub) *catalogpb.Scrub {
	return &catalogpb.Scrub{Domain: opaque(s.Domain), Pack: opaque(s.Pack), Started: stamp(s.Started), Completed: stamp(s.Completed), Due: stamp(s.Due),
		Packs: s.Packs, Bytes: s.Bytes, CompletedPacks: s.CompletedPacks, CompletedBytes: s.CompletedBytes}
}

func fromScrub(d *decoder, s *catalogpb.Scrub) Scrub {
	return Scrub{Domain: d.domain("domain", s.GetDomain()), Pack: d.hash("pack", s.GetPack()), Started: moment(s.GetStarted()), Completed: moment(s.GetCompleted()),
		Due: moment(s.GetDue()), Packs: s.GetPacks(), Bytes: s.GetBytes(), CompletedPacks: s.GetCompletedPacks(), CompletedBytes: s.GetCompletedBytes()}
}

func toDamagedPack(p DamagedPack) *catalogpb.DamagedPack {
	return &catalogpb.DamagedPack{Domain: opaque(p.Domain), Pack: opaque(p.Pack), Whole: p.Whole, Found: stamp(p.Found),
		Frames: each(p.Frames, func(f DamagedFrame) *catalogpb.DamagedFrame {
			return &catalogpb.DamagedFrame{Name: f.Name[:], Offset: f.Offset}
		})}
}

func fromDamagedPack(d *decoder, p *catalogpb.DamagedPack) DamagedPack {
	return DamagedPack{Domain: d.domain("domain", p.GetDomain()), Pack: d.hash("pack", p.GetPack()), Whole: p.GetWhole(), Found: moment(p.GetFound()),
		Frames: each(p.GetFrames(), func(f *catalogpb.DamagedFrame) DamagedFrame {
			return DamagedFrame{Name: seal.Name(d.hash("name", f.GetName())), Offset: f.GetOffset()}
		})}
}
