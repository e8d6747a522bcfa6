package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func toMeta(m Meta) *catalogpb.Meta {
	return &catalogpb.Meta{Repository: opaque(m.Repository), Epoch: m.Epoch, Counter: m.Counter, Head: toWitness(m.Head),
		Name: m.Name, Created: stamp(m.Created), IssuingCa: m.IssuingCA,
		Base: toWitness(m.Base), FullNumber: m.FullNumber, FullTime: stamp(m.FullTime)}
}

func fromMeta(d *decoder, m *catalogpb.Meta) Meta {
	return Meta{Repository: d.id("repository", m.GetRepository()), Epoch: m.GetEpoch(), Counter: m.GetCounter(), Head: d.witness(m.GetHead()),
		Name: m.GetName(), Created: moment(m.GetCreated()), IssuingCA: m.GetIssuingCa(),
		Base: d.witness(m.GetBase()), FullNumber: m.GetFullNumber(), FullTime: moment(m.GetFullTime())}
}

func toKey(k Key) *catalogpb.Key {
	return &catalogpb.Key{Id: opaque(k.ID), Name: k.Name, Created: stamp(k.Created), CreatedBy: k.CreatedBy, Sheet: k.Sheet,
		Confirmation: opaque(k.Confirmation), Confirmed: stamp(k.Confirmed), ConfirmedBy: k.ConfirmedBy, Recipient: k.Recipient}
}

func fromKey(d *decoder, k *catalogpb.Key) Key {
	return Key{ID: d.id("id", k.GetId()), Name: k.GetName(), Created: moment(k.GetCreated()), CreatedBy: k.GetCreatedBy(), Sheet: k.GetSheet(),
		Confirmation: d.hash("confirmation", k.GetConfirmation()), Confirmed: moment(k.GetConfirmed()), ConfirmedBy: k.GetConfirmedBy(), Recipient: k.GetRecipient()}
}

func toPause(p Pause) *catalogpb.Pause {
	return &catalogpb.Pause{Kind: string(p.Kind), Reason: p.Reason, Since: stamp(p.Since), Witness: toWitness(p.Witness), Resumed: stamp(p.Resumed), ResumedBy: p.ResumedBy, Subject: p.Subject}
}

func fromPause(d *decoder, p *catalogpb.Pause) Pause {
	return Pause{Kind: PauseKind(p.GetKind()), Reason: p.GetReason(), Since: moment(p.GetSince()), Witness: d.witness(p.GetWitness()),
		Resumed: moment(p.GetResumed()), ResumedBy: p.GetResumedBy(), Subject: p.GetSubject()}
}

func toTotals(t Totals) *catalogpb.Totals {
	return &catalogpb.Totals{Snapshots: t.Snapshots, PlainBytes: t.PlainBytes, StoredBytes: t.StoredBytes}
}

func fromTotals(_ *decoder, t *catalogpb.Totals) Totals {
	return Totals{Snapshots: t.GetSnapshots(), PlainBytes: t.GetPlainBytes(), StoredBytes: t.GetStoredBytes()}
}

func toSnapshot(s Snapshot) *catalogpb.Snapshot {
	return &catalogpb.Snapshot{
		Id: opaque(s.ID), Instance: opaque(s.Instance), InstanceName: s.InstanceName, Agent: opaque(s.Agent), Domain: opaque(s.Domain),
		Kind: string(s.Kind), Fence: toFence(s.Fence), Started: stamp(s.Started), Committed: stamp(s.Committed), Complete: s.Complete,
		SealEpoch: s.SealEpoch, ObjectHash: opaque(s.ObjectHash), ObjectBytes: s.ObjectBytes, Databases: s.Databases, Rows: s.Rows,
		PlainBytes: s.PlainBytes, Chunks: s.Chunks, StoredBytes: s.StoredBytes, ServerVersion: s.ServerVersion,
		SystemIdentifier: s.SystemIdentifier, Incarnation: s.Incarnation,
		Forgotten: toForgotten(s.Forgotten), Hold: toHold(s.Hold), Purged: stamp(s.Purged), Contents: toContents(s.Contents),
	}
}

func fromSnapshot(d *decoder, s *catalogpb.Snapshot) Snapshot {
	return Snapshot{
		ID: d.id("id", s.GetId()), Instance: d.id("instance", s.GetInstance()), InstanceName: s.GetInstanceName(), Agent: d.id("agent", s.GetAgent()),
		Domain: d.domain("domain", s.GetDomain()), Kind: repo.SnapshotKind(s.GetKind()), Fence: fromFence(s.GetFence()), Started: moment(s.GetStarted()),
		Committed: moment(s.GetCommitted()), Complete: s.GetComplete(), SealEpoch: s.GetSealEpoch(), ObjectHash: d.hash("object_hash", s.GetObjectHash()),
		ObjectBytes: s.GetObjectBytes(), Databases: s.GetDatabases(), Rows: s.GetRows(), PlainBytes: s.GetPlainBytes(), Chunks: s.GetChunks(),
		StoredBytes: s.GetStoredBytes(), ServerVersion: s.GetServerVersion(), SystemIdentifier: s.GetSystemIdentifier(), Incarnation: s.GetIncarnation(),
		Forgotten: fromForgotten(s.GetForgotten()), Hold: fromHold(s.GetHold()), Purged: moment(s.GetPurged()), Contents: fromContents(s.GetContents()),
	}
}

func toContents(list []SnapshotDatabase) (out []*catalogpb.SnapshotDatabase) {
	for _, d := range list {
		out = append(out, &catalogpb.SnapshotDatabase{Name: d.Name, Complete: d.Complete})
	}
	return out
}

func fromContents(list []*catalogpb.SnapshotDatabase) (out []SnapshotDatabase) {
	for _, d := range list {
		out = append(out, SnapshotDatabase{Name: d.GetName(), Complete: d.GetComplete()})
	}
	return out
}

func toForgotten(f Forgotten) *catalogpb.Forgotten {
	if f.Time.IsZero() {
		return nil
	}
	return &catalogpb.Forgotten{Time: stamp(f.Time), By: f.By, Reason: f.Reason, PurgeAfter: stamp(f.PurgeAfter), Doubtful: f.Doubtful}
}

func fromForgotten(f *catalogpb.Forgotten) Forgotten {
	return Forgotten{Time: moment(f.GetTime()), By: f.GetBy(), Reason: f.GetReason(), PurgeAfter: moment(f.GetPurgeAfter()), Doubtful: f.GetDoubtful()}
}

func toHold(h Hold) *catalogpb.Hold {
	if h.Until.IsZero() {
		return nil
	}
	return &catalogpb.Hold{Until: stamp(h.Until), By: h.By, Reason: h.Reason, Time: stamp(h.Time)}
}

func fromHold(h *catalogpb.Hold) Hold {
	return Hold{Until: moment(h.GetUntil()), By: h.GetBy(), Reason: h.GetReason(), Time: moment(h.GetTime())}
}

func toPruneNeed(n PruneNeed) *catalogpb.PruneNeed {
	return &catalogpb.PruneNeed{Domain: opaque(n.Domain), Since: stamp(n.Since), Snapshots: n.Snapshots, Bytes: n.Bytes}
}

func fromPruneNeed(d *decoder, n *catalogpb.PruneNeed) PruneNeed {
	return PruneNeed{Domain: d.domain("domain", n.GetDomain()), Since: moment(n.GetSince()), Snapshots: n.GetSnapshots(), Bytes: n.GetBytes()}
}

func toClock(c Clock) *catalogpb.Clock {
	return &catalogpb.Clock{Believed: stamp(c.Believed), Looked: stamp(c.Looked)}
}

func fromClock(_ *decoder, c *catalogpb.Clock) Clock {
	return Clock{Believed: moment(c.GetBelieved()), Looked: moment(c.GetLooked())}
}

func toPack(p Pack) *catalogpb.Pack {
	return &catalogpb.Pack{Id: opaque(p.ID), Job: opaque(p.Job), Fence: toFence(p.Fence), Instance: opaque(p.Instance), Domain: opaque(p.Domain),
		State: catalogpb.PackState(p.State), Size: p.Size, Frames: p.Frames, Created: stamp(p.Created)}
}

func fromPack(d *decoder, p *catalogpb.Pack) Pack {
	return Pack{ID: d.hash("id", p.GetId()), Job: d.id("job", p.GetJob()), Fence: fromFence(p.GetFence()), Instance: d.id("instance", p.GetInstance()),
		Domain: d.domain("domain", p.GetDomain()), State: PackState(p.GetState()), Size: p.GetSize(), Frames: p.GetFrames(), Created: moment(p.GetCreated())}
}

func toAudit(r AuditRecord) *catalogpb.AuditRecord {
	return &catalogpb.AuditRecord{Number: r.Number, Time: stamp(r.Time), Actor: r.Actor, Address: r.Address, Action: r.Action, Object: r.Object,
		Outcome: r.Outcome, Detail: r.Detail, Previous: opaque(r.Previous), Hash: opaque(r.Hash)}
}

func fromAudit(d *decoder, r *catalogpb.AuditRecord) AuditRecord {
	return AuditRecord{Number: r.GetNumber(), Time: moment(r.GetTime()), Actor: r.GetActor(), Address: r.GetAddress(), Action: r.GetAction(),
		Object: r.GetObject(), Outcome: r.GetOutcome(), Detail: r.GetDetail(), Previous: d.hash("previous", r.GetPrevious()), Hash: d.hash("hash", r.GetHash())}
}
