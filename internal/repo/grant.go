package repo

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Grant holds the derived keys that an agent gets for one job. Neither root of
// the domain can be found from them.
type Grant struct {
	Domain seal.DomainID
	// Name is K_name, Refs is K_refs.
	Name, Refs seal.Key
	// Cut is K_cut, in grants for writing alone; else zero.
	Cut seal.Key
	// Seal is K_seal by epoch.
	Seal map[uint32]seal.Key
	// NewestEpoch is the newest epoch in Seal.
	NewestEpoch uint32
	// Params are how the domain's rows are cut.
	Params chunk.Params
}

// WriteGrant gives what a backup needs: the newest seal epoch only.
func (d *Domain) WriteGrant() Grant {
	epoch := d.SealEpoch()
	g := d.grant(epoch)
	g.Cut = d.keys.Cut()
	g.Seal[epoch] = d.keys.Seal(epoch)
	return g
}

// ReadGrant gives what a restore needs: the keys of the given seal epochs. A
// chunk may have been sealed in any epoch up to that of the snapshot: see
// EpochsUpTo. An epoch that never was is errs.Invalid.
func (d *Domain) ReadGrant(epochs []uint32) (Grant, error) {
	newest := d.SealEpoch()
	g := d.grant(0)
	for _, e := range epochs {
		if e == 0 || e > newest {
			return Grant{}, fmt.Errorf("grant of domain %x: seal epoch %d of %d: %w", d.id[:4], e, newest, errs.Invalid)
		}
		g.Seal[e] = d.keys.Seal(e)
		g.NewestEpoch = max(g.NewestEpoch, e)
	}
	if len(g.Seal) == 0 {
		return Grant{}, fmt.Errorf("grant of domain %x: no seal epoch: %w", d.id[:4], errs.Invalid)
	}
	return g, nil
}

func (d *Domain) grant(newest uint32) Grant {
	return Grant{Domain: d.id, Name: d.keys.Name(), Refs: d.keys.Refs(), Seal: map[uint32]seal.Key{},
		NewestEpoch: newest, Params: d.cut}
}

// EpochsUpTo lists 1 to last: the seal epochs that a snapshot whose header says
// last may have chunks of.
func EpochsUpTo(last uint32) []uint32 {
	epochs := make([]uint32, 0, last)
	for e := uint32(1); e <= last; e++ {
		epochs = append(epochs, e)
	}
	return epochs
}
