package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// maxDomainBytes is far above what a domain's record takes.
	maxDomainBytes = 64 << 10
	// maxEpochs bounds the keys of a grant: a new epoch every 30 days fills it in
	// 5,000 years, so a greater number in a store is damage.
	maxEpochs = 1 << 16
	// maxGenerations bounds the generations of one domain that are looked at: one for
	// each seal epoch and each change of the master key.
	maxGenerations = 2 * maxEpochs

	purposeData    = "domain-data"
	purposeControl = "domain-control"
)

// Domain is a dedup domain: the instances among which chunks are shared, with
// keys of its own. It may be used by several goroutines.
type Domain struct {
	repo *Repository
	id   seal.DomainID
	keys seal.DomainKeys
	cut  chunk.Params

	mu         sync.Mutex
	generation uint64
	epoch      uint32
	since      time.Time
}

// domainJSON is a generation of domains/<domain>/<generation>. The roots are
// sealed apart, so that a later mode can hand out one without the other.
type domainJSON struct {
	// Clear is the JSON of a domainClear; its exact bytes are bound by both seals.
	Clear   json.RawMessage `json:"clear"`
	Data    []byte          `json:"data"`
	Control []byte          `json:"control"`
}

type domainClear struct {
	Version    int       `json:"version"`
	Domain     string    `json:"domain"`
	Generation uint64    `json:"generation"`
	Cut        cutJSON   `json:"cut"`
	SealEpoch  uint32    `json:"seal_epoch"`
	SealSince  time.Time `json:"seal_since"`
	// Master is the number of the master key that seals the roots; not there for the
	// first one.
	Master uint64 `json:"master,omitempty"`
}

// master is the number of the master key that seals the roots.
func (c *domainClear) master() uint64 { return max(c.Master, firstMaster) }

// CreateDomain makes a domain with new keys. One durable step: the domain's
// record is there or not, and a domain that nobody has heard of harms nothing.
func (r *Repository) CreateDomain(ctx context.Context) (seal.DomainID, error) {
	if err := r.gate.Acquire(ctx, 1); err != nil {
		return seal.DomainID{}, fmt.Errorf("create domain: %w", blob.Canceled(ctx))
	}
	defer r.gate.Release(1)
	d := &Domain{repo: r, id: seal.DomainID(NewID()), keys: seal.NewDomainKeys(), cut: r.description.Cut,
		generation: 1, epoch: 1, since: time.Now().UTC().Truncate(time.Second)}
	if err := d.put(ctx, r.current(), d.generation, d.epoch, d.since); err != nil {
		return seal.DomainID{}, fmt.Errorf("create domain: %w", err)
	}
	r.mu.Lock()
	r.domains[d.id] = d
	r.mu.Unlock()
	return d.id, nil
}

// Domain opens a domain by its newest record. Asked again, it gives the same one
// without reading. errs.NotFound when there is none.
func (r *Repository) Domain(ctx context.Context, id seal.DomainID) (*Domain, error) {
	r.mu.Lock()
	d := r.domains[id]
	r.mu.Unlock()
	if d != nil {
		return d, nil
	}
	d, err := r.readDomain(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open domain %x: %w", id[:4], err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, erased := r.erased[id]; erased {
		return nil, fmt.Errorf("open domain %x: it was erased: %w", id[:4], errs.NotFound)
	}
	if first := r.domains[id]; first != nil {
		return first, nil // somebody else was faster, and may have bumped its epoch
	}
	r.domains[id] = d
	return d, nil
}

// Domains calls fn for each domain of the repository, in order of the ids.
func (r *Repository) Domains(ctx context.Context, fn func(seal.DomainID) error) error {
	var last seal.DomainID
	return r.store.List(ctx, DomainsPrefix, "", func(info blob.Info) error {
		id, _, err := ParseDomainObject(info.Key)
		if err != nil {
			return fmt.Errorf("list domains: %w", err)
		}
		if id == last {
			return nil // an older generation of the same one
		}
		last = id
		return fn(id)
	})
}

func (r *Repository) readDomain(ctx context.Context, id seal.DomainID) (*Domain, error) {
	var generations []uint64 // 8 bytes each, at most maxGenerations
	err := r.store.List(ctx, DomainPrefix(id), "", func(info blob.Info) error {
		_, n, err := ParseDomainObject(info.Key)
		if err == nil && len(generations) >= maxGenerations {
			err = fmt.Errorf("more than %d generations: %w", maxGenerations, errs.Corrupt)
		}
		generations = append(generations, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(generations) == 0 {
		return nil, errs.NotFound
	}
	m := r.current()
	var d *Domain
	for _, n := range slices.Backward(generations) { // keys come in order
		text, err := blob.ReadAll(ctx, r.store, DomainObject(id, n), maxDomainBytes)
		if err != nil {
			return nil, err
		}
		if d, err = r.decodeDomain(m, id, n, text); err == nil {
			break
		}
		if !errors.Is(err, errOtherMaster) {
			return nil, fmt.Errorf("%s: %w", DomainObject(id, n), err)
		}
	}
	if d == nil {
		return nil, fmt.Errorf("none of %d generations is sealed under master key %d: %w", len(generations), m.number, errs.Corrupt)
	}
	// The next one is written after all that are there.
	d.generation = generations[len(generations)-1]
	return d, nil
}

// errOtherMaster is what a generation meets that is sealed under a master key
// other than the one in force: it was replaced, or is part of a change that was
// broken off.
var errOtherMaster = errors.New("sealed under another master key than the one in force")

func (r *Repository) decodeDomain(m *masters, id seal.DomainID, generation uint64, text []byte) (*Domain, error) {
	j, c, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	if c.master() != m.number {
		return nil, fmt.Errorf("master key %d: %w: %w", c.master(), errOtherMaster, errs.Conflict)
	}
	d := &Domain{repo: r, id: id, cut: chunk.Params(c.Cut), generation: generation, epoch: c.SealEpoch, since: c.SealSince}
	aad := append(r.aad(DomainObject(id, generation)), j.Clear...)
	for _, root := range []struct {
		purpose string
		sealed  []byte
		key     *seal.Key
	}{{purposeData, j.Data, &d.keys.Data}, {purposeControl, j.Control, &d.keys.Control}} {
		plain, err := seal.OpenBlob(m.key.WrapDomain(), root.purpose, aad, root.sealed)
		if err != nil {
			return nil, err
		}
		if len(plain) != len(root.key) {
			return nil, fmt.Errorf("%s of %d bytes: %w", root.purpose, len(plain), errs.Corrupt)
		}
		copy(root.key[:], plain)
	}
	return d, c.check(id, generation)
}

// parseDomain reads a domain's record as far as that needs no key.
func parseDomain(text []byte) (j domainJSON, c domainClear, err error) {
	if err := strictJSON(text, &j); err != nil {
		return j, c, fmt.Errorf("%w: %w", err, errs.Corrupt)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(j.Clear, &v); err != nil || v.Version > 1 {
		return j, c, fmt.Errorf("version %d: %w", v.Version, errs.Unsupported)
	}
	if err := strictJSON(j.Clear, &c); err != nil {
		return j, c, fmt.Errorf("%w: %w", err, errs.Corrupt)
	}
	return j, c, nil
}

// check tells whether the clear part can be that of a domain's generation.
func (c *domainClear) check(id seal.DomainID, generation uint64) error {
	if c.Version != 1 || c.Master == firstMaster || c.Domain != hexDomain(id) || c.Generation != generation || c.SealEpoch == 0 ||
		c.SealEpoch > maxEpochs || chunk.Params(c.Cut).Validate() != nil {
		return fmt.Errorf("record of domain %s, generation %d, seal epoch %d, cut %+v: %w",
			c.Domain, c.Generation, c.SealEpoch, c.Cut, errs.Corrupt)
	}
	return nil
}

func (d *Domain) put(ctx context.Context, m *masters, generation uint64, epoch uint32, since time.Time) error {
	key := DomainObject(d.id, generation)
	if d.repo.isErased(d.id) {
		return fmt.Errorf("put %s: the domain was erased: %w", key, errs.NotFound)
	}
	c := domainClear{Version: 1, Domain: hexDomain(d.id), Generation: generation, Cut: cutJSON(d.cut), SealEpoch: epoch, SealSince: since}
	if m.number != firstMaster {
		c.Master = m.number
	}
	clearText, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	aad := append(d.repo.aad(key), clearText...)
	wrap := m.key.WrapDomain()
	data, err := seal.SealBlob(wrap, purposeData, aad, d.keys.Data[:])
	if err != nil {
		return err
	}
	control, err := seal.SealBlob(wrap, purposeControl, aad, d.keys.Control[:])
	if err != nil {
		return err
	}
	text, err := json.Marshal(domainJSON{Clear: clearText, Data: data, Control: control})
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	if err := d.repo.store.Create(ctx, key, blob.Bytes(text)); err != nil {
		return err
	}
	// Without its roots a domain's data is lost: see that what was stored opens.
	raw, err := blob.ReadAll(ctx, d.repo.store, key, maxDomainBytes)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	stored, err := d.repo.decodeDomain(m, d.id, generation, raw)
	if err != nil {
		return fmt.Errorf("read back %s: %w", key, err)
	}
	if stored.keys != d.keys || stored.epoch != epoch {
		return fmt.Errorf("read back %s: holds other keys, or seal epoch %d: %w", key, stored.epoch, errs.Corrupt)
	}
	return nil
}

// ID of the domain.
func (d *Domain) ID() seal.DomainID { return d.id }

// Keys are the domain's roots. They stay in the controller; agents get grants.
func (d *Domain) Keys() seal.DomainKeys { return d.keys }

// Params are the domain's cutting parameters.
func (d *Domain) Params() chunk.Params { return d.cut }

// SealEpoch is the newest seal epoch.
func (d *Domain) SealEpoch() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch
}

// SealSince is when the newest seal epoch began.
func (d *Domain) SealSince() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// BumpSealEpoch begins a new seal epoch and returns it: what is sealed from now
// on cannot be read with the keys handed out before. One durable step, the
// domain's next generation; it is the newest one or does not exist. Another
// process that did the same first is errs.Conflict; its generation is then known.
func (d *Domain) BumpSealEpoch(ctx context.Context) (uint32, error) {
	if err := d.repo.gate.Acquire(ctx, 1); err != nil {
		return 0, fmt.Errorf("bump seal epoch of domain %x: %w", d.id[:4], blob.Canceled(ctx))
	}
	defer d.repo.gate.Release(1)
	d.mu.Lock()
	generation, epoch := d.generation+1, d.epoch+1
	d.mu.Unlock()
	if epoch > maxEpochs {
		return 0, fmt.Errorf("bump seal epoch of domain %x: %d is the last: %w", d.id[:4], maxEpochs, errs.Exhausted)
	}
	since := time.Now().UTC().Truncate(time.Second)
	err := d.put(ctx, d.repo.current(), generation, epoch, since)
	if errors.Is(err, errs.Exists) {
		newest, readErr := d.repo.readDomain(ctx, d.id)
		if readErr != nil {
			return 0, fmt.Errorf("bump seal epoch of domain %x: %w", d.id[:4], readErr)
		}
		d.adopt(newest.generation, newest.epoch, newest.since)
		return 0, fmt.Errorf("bump seal epoch of domain %x: it is %d already: %w", d.id[:4], newest.epoch, errs.Conflict)
	}
	if err != nil {
		return 0, fmt.Errorf("bump seal epoch of domain %x: %w", d.id[:4], err)
	}
	d.adopt(generation, epoch, since)
	return epoch, nil
}

func (d *Domain) adopt(generation uint64, epoch uint32, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if generation > d.generation {
		d.generation, d.epoch, d.since = generation, epoch, since
	}
}
