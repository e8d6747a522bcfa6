package prune_test

import (
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pack"
)

const mib = 1 << 20

// pk is a pack of so many MiB of frames, of which live are needed.
func pk(id byte, size, live int64) check.PackUse {
	return check.PackUse{ID: pack.ID{id}, Size: size*mib + 1000, Frames: int32(size), LiveFrames: int32(live), FrameBytes: size * mib, LiveBytes: live * mib}
}

func with(u check.PackUse, change func(*check.PackUse)) check.PackUse {
	change(&u)
	return u
}

func TestPacksAreChosenByWhatTheyCost(t *testing.T) {
	small := func(n int) (out []check.PackUse) {
		for i := range n {
			out = append(out, pk(byte(100+i), 2, 2))
		}
		return out
	}
	for name, c := range map[string]struct {
		packs        []check.PackUse
		protected    byte
		rules        prune.Rules
		dead, repack []byte
		left         int64
		incomplete   bool
	}{
		"what nothing is needed of goes whatever the budget": {
			packs: []check.PackUse{pk(1, 64, 0), pk(2, 64, 64), pk(3, 1, 0)}, dead: []byte{1, 3}},
		"a pack with little garbage stays": {
			packs: []check.PackUse{pk(1, 64, 60)}, rules: prune.Rules{Budget: 1 << 40}, left: 4 * mib},
		"the cheapest are copied first, as far as the budget goes": {
			packs: []check.PackUse{pk(1, 64, 40), pk(2, 64, 4), pk(3, 64, 20)}, rules: prune.Rules{Budget: 30 * mib}, repack: []byte{2, 3}, left: 24 * mib, incomplete: true},
		"one that is beyond the budget does not keep a smaller one": {
			packs: []check.PackUse{pk(1, 64, 30), pk(2, 20, 10)}, rules: prune.Rules{Budget: 12 * mib}, repack: []byte{2}, left: 34 * mib, incomplete: true},
		"a pack that somebody is at stays": {
			packs: []check.PackUse{pk(1, 64, 0), pk(2, 64, 0)}, protected: 1, dead: []byte{2}},
		"what is ignored or condemned already is not judged": {
			packs: []check.PackUse{with(pk(1, 64, 0), func(u *check.PackUse) { u.Standing = check.Ignored }), with(pk(2, 64, 0), func(u *check.PackUse) { u.Standing = check.Condemned })}},
		"the last copy of something damaged stays": {
			packs: []check.PackUse{with(pk(1, 64, 1), func(u *check.PackUse) { u.Hurt = true })}, rules: prune.Rules{Budget: 1 << 40}},
		"a few small packs are left alone": {
			packs: small(8), rules: prune.Rules{Budget: 1 << 40}},
		"many small packs become large ones": {
			packs: small(9), rules: prune.Rules{Budget: 1 << 40}, repack: []byte{100, 101, 102, 103, 104, 105, 106, 107, 108}},
		"small packs are merged within the budget": {
			packs: small(9), rules: prune.Rules{Budget: 5 * mib}, repack: []byte{100, 101}, incomplete: true},
		"one small pack is never copied into one": {
			packs: small(9), rules: prune.Rules{Budget: 3 * mib}},
		"more than can be condemned at once: the largest first": {
			packs: []check.PackUse{pk(1, 10, 0), pk(2, 30, 0), pk(3, 20, 0), pk(4, 64, 10)}, rules: prune.Rules{Budget: 1 << 40, Most: 2}, dead: []byte{2, 3}, left: 54 * mib, incomplete: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.rules.Most == 0 {
				c.rules.Most = 1000
			}
			got := prune.Decide(c.packs, func(id pack.ID) bool { return c.protected != 0 && id[0] == c.protected }, c.rules)
			ids := func(packs []check.PackUse) (out []byte) {
				for _, p := range packs {
					out = append(out, p.ID[0])
				}
				slices.Sort(out)
				return out
			}
			if !slices.Equal(ids(got.Dead), c.dead) || !slices.Equal(ids(got.Repack), c.repack) || got.Left != c.left || got.Complete == c.incomplete {
				t.Errorf("dead %v, repack %v, left %d, complete %v", ids(got.Dead), ids(got.Repack), got.Left, got.Complete)
			}
			if len(got.Packs()) != len(c.dead)+len(c.repack) {
				t.Errorf("%d packs in all", len(got.Packs()))
			}
		})
	}
}
