package prune

import (
	"cmp"
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pack"
)

// Rules say what is worth doing.
type Rules struct {
	// Budget bounds the bytes of chunks that are copied so that the rest of their
	// packs can go.
	Budget int64
	// Most bounds the packs that are condemned at once.
	Most int
}

// The measures of what is worth a copy.
const (
	// leastGarbage is the part of a pack, one in so many bytes, that must be garbage
	// before what is beside it is copied: a pack is then written again at most a few
	// times in its life.
	leastGarbage = 4
	// smallPack is the size below which a pack is merged with others, and fewSmall how
	// many of them are left alone: each flush of a slow stream leaves one.
	smallPack = pack.MaxSize / 4
	fewSmall  = 8
)

// Plan is what is to go from one domain.
type Plan struct {
	// Dead packs hold nothing that is needed, Repack some of which the rest is copied.
	Dead, Repack []check.PackUse
	// Left is the garbage, in bytes, that stays in packs that stay.
	Left int64
	// Complete tells that another prune would find nothing to do: that there was room
	// for all packs, and that the budget, if it allowed anything, allowed everything.
	Complete bool
}

// Packs gives the ids of all packs that go.
func (p *Plan) Packs() []pack.ID {
	out := make([]pack.ID, 0, len(p.Dead)+len(p.Repack))
	for _, list := range [][]check.PackUse{p.Dead, p.Repack} {
		for i := range list {
			out = append(out, list[i].ID)
		}
	}
	return out
}

// Decide chooses the packs of a domain that go: all of which nothing is needed,
// and, as far as the budget goes, first those that cost the fewest copied bytes
// for each byte freed, then small ones. protected packs stay: somebody is at
// them. What only packs that are ignored or condemned already hold is not judged.
func Decide(packs []check.PackUse, protected func(pack.ID) bool, r Rules) Plan {
	p := Plan{Complete: true}
	var partly, small []check.PackUse
	for i := range packs {
		u := packs[i]
		switch garbage := u.FrameBytes - u.LiveBytes; {
		case u.Standing != check.Stays || protected(u.ID) || u.Hurt:
		case u.LiveFrames == 0:
			p.Dead = append(p.Dead, u)
		case garbage > 0 && garbage >= u.FrameBytes/leastGarbage:
			partly = append(partly, u)
		case u.Size < smallPack:
			small = append(small, u)
			p.Left += garbage
		default:
			p.Left += garbage
		}
	}
	if len(p.Dead) > r.Most {
		slices.SortFunc(p.Dead, func(a, b check.PackUse) int { return cmp.Compare(b.Size, a.Size) })
		p.Dead, p.Complete = p.Dead[:r.Most], false
	}
	cheapest(partly)
	p.take(partly, r)
	if len(small) > fewSmall {
		slices.SortFunc(small, func(a, b check.PackUse) int {
			return cmp.Or(cmp.Compare(a.Size, b.Size), slices.Compare(a.ID[:], b.ID[:]))
		})
		p.merge(small, r)
	}
	return p
}

// cheapest puts packs first that cost little for what they free.
func cheapest(packs []check.PackUse) {
	slices.SortFunc(packs, func(a, b check.PackUse) int {
		// a.Live/a.garbage < b.Live/b.garbage, in numbers that fit: a pack has 2^27 bytes.
		return cmp.Or(cmp.Compare(a.LiveBytes*(b.FrameBytes-b.LiveBytes), b.LiveBytes*(a.FrameBytes-a.LiveBytes)), slices.Compare(a.ID[:], b.ID[:]))
	})
}

// take condemns packs within the budget; the garbage of the others is left.
func (p *Plan) take(packs []check.PackUse, r Rules) {
	copied, cut := p.copied(), false
	for _, u := range packs {
		switch {
		case len(p.Dead)+len(p.Repack) >= r.Most:
			p.Complete = false
			p.Left += u.FrameBytes - u.LiveBytes
		case copied+u.LiveBytes > r.Budget:
			p.Left, cut = p.Left+u.FrameBytes-u.LiveBytes, true
		default:
			copied += u.LiveBytes
			p.Repack = append(p.Repack, u)
		}
	}
	p.Complete = p.Complete && (!cut || len(p.Repack) == 0)
}

// merge condemns small packs within the budget, unless that makes one of one.
func (p *Plan) merge(packs []check.PackUse, r Rules) {
	before := len(p.Repack)
	left, complete := p.Left, p.Complete
	p.take(packs, r)
	if len(p.Repack)-before < 2 {
		p.Repack, p.Complete = p.Repack[:before], complete
	} else {
		for _, u := range p.Repack[before:] {
			left -= u.FrameBytes - u.LiveBytes
		}
	}
	p.Left = left // what take left of them was counted when they were found
}

func (p *Plan) copied() (n int64) {
	for i := range p.Repack {
		n += p.Repack[i].LiveBytes
	}
	return n
}

// outcome tells the plan in the words of a run.
func (p *Plan) outcome(u *check.Use) catalog.PruneOutcome {
	o := catalog.PruneOutcome{LeftBytes: p.Left}
	for i := range u.Packs {
		if u.Packs[i].Standing == check.Stays {
			o.Packs, o.Bytes, o.Frames = o.Packs+1, o.Bytes+u.Packs[i].Size, o.Frames+int64(u.Packs[i].Frames)
		}
	}
	for i := range p.Dead {
		o.DeadPacks, o.DeadBytes = o.DeadPacks+1, o.DeadBytes+p.Dead[i].Size
	}
	for i := range p.Repack {
		o.RepackPacks, o.RepackBytes, o.RepackLive = o.RepackPacks+1, o.RepackBytes+p.Repack[i].Size, o.RepackLive+p.Repack[i].LiveBytes
	}
	return o
}
