package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func toErasure(e Erasure) *catalogpb.Erasure {
	out := &catalogpb.Erasure{Domain: opaque(e.Domain), Began: stamp(e.Began), By: e.By, Destroyed: stamp(e.Destroyed), Done: stamp(e.Done), Snapshots: e.Snapshots}
	for _, id := range e.Instances {
		out.Instances = append(out.Instances, opaque(id))
	}
	return out
}

func fromErasure(d *decoder, e *catalogpb.Erasure) Erasure {
	out := Erasure{Domain: seal.DomainID(d.id("domain", e.GetDomain())), Began: moment(e.GetBegan()), By: e.GetBy(), Destroyed: moment(e.GetDestroyed()),
		Done: moment(e.GetDone()), Snapshots: e.GetSnapshots()}
	for _, id := range e.GetInstances() {
		out.Instances = append(out.Instances, d.id("instance", id))
	}
	return out
}

func toDistrust(r Distrust) *catalogpb.Distrust {
	return &catalogpb.Distrust{Agent: opaque(r.Agent), Since: stamp(r.Since), Until: stamp(r.Until), By: r.By, Done: stamp(r.Done), Packs: r.Packs}
}

func fromDistrust(d *decoder, r *catalogpb.Distrust) Distrust {
	return Distrust{Agent: d.id("agent", r.GetAgent()), Since: moment(r.GetSince()), Until: moment(r.GetUntil()), By: r.GetBy(), Done: moment(r.GetDone()), Packs: r.GetPacks()}
}

func toDistrustedPack(p DistrustedPack) *catalogpb.DistrustedPack {
	return &catalogpb.DistrustedPack{Domain: opaque(p.Domain), Pack: opaque(p.Pack), Agent: opaque(p.Agent)}
}

func fromDistrustedPack(d *decoder, p *catalogpb.DistrustedPack) DistrustedPack {
	return DistrustedPack{Domain: seal.DomainID(d.id("domain", p.GetDomain())), Pack: d.hash("pack", p.GetPack()), Agent: d.id("agent", p.GetAgent())}
}
