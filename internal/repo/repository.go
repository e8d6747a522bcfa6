package repo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of key objects.
const (
	// maxKeyBytes is far above what any kind of wrap takes.
	maxKeyBytes = 64 << 10
	// maxKeys bounds the work of opening: a passphrase costs a second a wrap.
	maxKeys = 64
)

// Options say what a new repository is.
type Options struct {
	// Unlocker is the first one.
	Unlocker seal.Unlocker
	// Name for people, in clear: 1 to 64 of letters, digits, space and ._-.
	Name string
	// ChunkParams are given to new domains; the zero value means chunk.DefaultParams.
	ChunkParams chunk.Params
}

// Repository is an open repository. It may be used by several goroutines.
type Repository struct {
	store       blob.Store
	description *Description
	// opened is the key that it was opened with, and unlocker what opened it.
	opened   ID
	unlocker seal.Unlocker
	// encoder compresses log records. It is made when first needed and shared: its
	// tables cost more than a record.
	encoder func() (*zstd.Encoder, error)

	// gate is shared by all that seal under the master key, but the log, and held
	// alone by a change of it. Where both are taken it comes before the log's turn.
	gate *semaphore.Weighted
	// rotating is held by a change of the master key from its first step on, and by
	// the destruction of a domain's keys: neither may undo the other. It comes first.
	rotating *semaphore.Weighted

	mu      sync.Mutex
	keys    *masters
	erased  map[seal.DomainID]struct{} // those that were destroyed by this Repository
	domains map[seal.DomainID]*Domain  // those opened so far
}

// Init makes a repository in an empty store.
//
// Durable steps:
//  1. repository.json, if it does not exist: decides between two Inits at once.
//  2. keys/<repository id>, if it does not exist, with a new master key.
//
// A crash after step 1 leaves a repository without a key: Open says so, and
// another Init with the same name and parameters finishes it. Since the first
// key has the one place that the id names, two Inits that both see step 1 done
// cannot make two master keys. A store that holds anything else is refused with
// errs.Exists and left as it is.
func Init(ctx context.Context, store blob.Store, o Options) (*Repository, error) {
	if o.ChunkParams == (chunk.Params{}) {
		o.ChunkParams = chunk.DefaultParams
	}
	if o.Unlocker == nil {
		return nil, fmt.Errorf("init repository: no unlocker: %w", errs.Invalid)
	}
	want := &Description{Format: FormatNumber, ID: NewID(), Name: o.Name, Created: time.Now().UTC().Truncate(time.Second), Cut: o.ChunkParams}
	if err := want.check(); err != nil {
		return nil, fmt.Errorf("init repository: %w: %w", err, errs.Invalid)
	}
	d, err := claim(ctx, store, want)
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	r := newRepository(store, d)
	r.keys = &masters{number: firstMaster, key: seal.NewMasterKey()}
	r.opened, r.unlocker = d.ID, o.Unlocker
	if err := r.putKey(ctx, r.keys, d.ID, o.Unlocker); err != nil {
		if errors.Is(err, errs.Exists) {
			return nil, fmt.Errorf("init repository: another init was faster: %w", errs.Exists)
		}
		return nil, fmt.Errorf("init repository: %w", err)
	}
	return r, nil
}

// claim does Init's first step, or finds it done by an Init that went no further.
func claim(ctx context.Context, store blob.Store, want *Description) (*Description, error) {
	unfinished, err := onlyDescription(ctx, store)
	if err != nil {
		return nil, err
	}
	if !unfinished {
		text, err := want.encode()
		if err != nil {
			return nil, err
		}
		if err := store.Create(ctx, DescriptionObject, blob.Bytes(text)); err != nil {
			return nil, err
		}
		want.Hash = sha256.Sum256(text)
		return want, nil
	}
	found, err := Describe(ctx, store)
	if err != nil {
		return nil, err
	}
	if found.Name != want.Name || found.Cut != want.Cut {
		return nil, fmt.Errorf("an unfinished init named %q with cut %+v is there: %w", found.Name, found.Cut, errs.Conflict)
	}
	return found, nil
}

// onlyDescription tells whether the store holds repository.json and nothing else
// (true) or nothing (false). Anything else is errs.Exists.
func onlyDescription(ctx context.Context, store blob.Store) (bool, error) {
	found := false
	err := store.List(ctx, "", "", func(info blob.Info) error {
		if info.Key != DescriptionObject {
			return fmt.Errorf("%s is not empty, it holds %s: %w", store.Features().Location, info.Key, errs.Exists)
		}
		found = true
		return nil
	})
	return found, err
}

// Open opens a repository with the first unlocker that fits any of its keys. It
// writes nothing. Errors: errs.NotFound when there is no repository,
// errs.Unsupported for a later format, errs.Denied when no unlocker fits,
// errs.Conflict when its Init did not finish, errs.Corrupt.
func Open(ctx context.Context, store blob.Store, unlockers ...seal.Unlocker) (*Repository, error) {
	d, err := Describe(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r := newRepository(store, d)
	l, err := r.listKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", d.ID.Short(), err)
	}
	if len(l.wraps) == 0 {
		return nil, fmt.Errorf("open repository %s: it has no key, its init did not finish: %w", d.ID.Short(), errs.Conflict)
	}
	// Those of the newest master key first.
	slices.SortStableFunc(l.wraps, func(a, b wrap) int { return cmp.Compare(b.master, a.master) })
	var refusals error
	for _, w := range l.wraps {
		if w.master != firstMaster && !slices.Contains(l.successions, w.master) {
			continue // of a change of the master key that was broken off
		}
		err := r.openBy(ctx, w, l.successions, unlockers)
		if err == nil {
			return r, nil
		}
		if errors.Is(err, errs.Unavailable) || context.Cause(ctx) != nil {
			return nil, fmt.Errorf("open repository %s: %w", d.ID.Short(), err)
		}
		// Not for this unlocker, damaged, of a kind unknown here, or of a master key that
		// is not in force: another may fit.
		refusals = errors.Join(refusals, err)
	}
	return nil, fmt.Errorf("open repository %s: none of %d keys opens: %w: %w", d.ID.Short(), len(l.wraps), errs.Denied, refusals)
}

// openBy opens the repository by one wrap, if the master key in it is in force.
func (r *Repository) openBy(ctx context.Context, w wrap, successions []uint64, unlockers []seal.Unlocker) error {
	var refusals error
	for _, u := range unlockers {
		master, err := r.unwrap(ctx, w, []seal.Unlocker{u})
		if err != nil {
			refusals = errors.Join(refusals, err)
			continue
		}
		m, err := r.accede(ctx, w.master, master, successions)
		if err != nil {
			return fmt.Errorf("key %s: %w", w.id.Short(), err)
		}
		r.keys, r.opened, r.unlocker = m, w.id, u
		return nil
	}
	if refusals == nil {
		refusals = fmt.Errorf("key %s: no unlocker given: %w", w.id.Short(), errs.Denied)
	}
	return refusals
}

func newRepository(store blob.Store, d *Description) *Repository {
	return &Repository{store: store, description: d, gate: semaphore.NewWeighted(gateWeight),
		rotating: semaphore.NewWeighted(1), erased: map[seal.DomainID]struct{}{},
		encoder: sync.OnceValues(newEncoder), domains: map[seal.DomainID]*Domain{}}
}

// gateWeight is the whole of a gate: more than could ever share it.
const gateWeight = 1 << 30

// ID of the repository.
func (r *Repository) ID() RepositoryID { return r.description.ID }

// Description is repository.json.
func (r *Repository) Description() Description { return *r.description }

// Store is the store that the repository is in.
func (r *Repository) Store() blob.Store { return r.store }

// KeyIDs lists the ids of the keys that open to the master key in force.
func (r *Repository) KeyIDs(ctx context.Context) ([]ID, error) {
	l, err := r.listKeys(ctx)
	if err != nil {
		return nil, err
	}
	var ids []ID
	current := r.current().number
	for _, w := range l.wraps {
		if w.master != current {
			continue
		}
		if ids = append(ids, w.id); len(ids) > maxKeys {
			return nil, fmt.Errorf("list keys: more than %d keys: %w", maxKeys, errs.Corrupt)
		}
	}
	return ids, nil
}

// KeyObject is the object of one of the repository's keys under the master key in force.
func (r *Repository) KeyObject(id ID) string { return keyObjectOf(id, r.current().number) }

// OpenedBy is the key that the repository was opened with.
func (r *Repository) OpenedBy() ID { return r.opened }

// KeyKind tells which kind of unlocker a key is for: errs.Corrupt when the key is
// damaged, errs.Unsupported when it is of a kind unknown here.
func (r *Repository) KeyKind(ctx context.Context, id ID) (seal.WrapKind, error) {
	key := keyObjectOf(id, r.current().number)
	wrapped, err := blob.ReadAll(ctx, r.store, key, maxKeyBytes)
	if err != nil {
		return 0, fmt.Errorf("read key %s: %w", id.Short(), err)
	}
	kind, err := seal.WrapKindOf(wrapped)
	if err != nil {
		return kind, fmt.Errorf("%s: %w", key, err)
	}
	return kind, nil
}

// AddKey wraps the master key for another unlocker, as the key of a new random
// id. One durable step: the key object is there or not.
func (r *Repository) AddKey(ctx context.Context, id ID, u seal.Unlocker) error {
	if err := r.gate.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("add key: %w", blob.Canceled(ctx))
	}
	defer r.gate.Release(1)
	ids, err := r.KeyIDs(ctx)
	if err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	if len(ids) >= maxKeys {
		return fmt.Errorf("add key: there are %d already: %w", len(ids), errs.Exhausted)
	}
	if err := r.putKey(ctx, r.current(), id, u); err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	return nil
}

// RemoveKey deletes a key. The last one, and the one that the repository was opened
// with, are refused with errs.Conflict. Whoever kept a copy of the object and has its unlocker can still open the repository.
func (r *Repository) RemoveKey(ctx context.Context, id ID) error {
	ids, err := r.KeyIDs(ctx)
	if err != nil {
		return fmt.Errorf("remove key %s: %w", id.Short(), err)
	}
	found, others := false, false
	for _, other := range ids {
		found = found || other == id
		others = others || other != id
	}
	switch {
	case !found:
		return fmt.Errorf("remove key %s: %w", id.Short(), errs.NotFound)
	case !others:
		return fmt.Errorf("remove key %s: it is the last one: %w", id.Short(), errs.Conflict)
	case id == r.opened:
		return fmt.Errorf("remove key %s: the repository was opened with it; start the controller with another one first: %w", id.Short(), errs.Conflict)
	}
	err = r.store.Delete(ctx, keyObjectOf(id, r.current().number))
	if errors.Is(err, errs.Locked) {
		return nil // it opens nothing any more; what the lock keeps is a version of the past
	}
	return err
}

// putKey puts a wrap of the given master key and reads it back.
func (r *Repository) putKey(ctx context.Context, m *masters, id ID, u seal.Unlocker) error {
	at := wrap{id, m.number}
	key := at.object()
	wrapped, err := u.Wrap(m.key, r.keyAAD(key))
	if err != nil {
		return fmt.Errorf("wrap key: %w", err)
	}
	if len(wrapped) > maxKeyBytes {
		return fmt.Errorf("wrap key: %d bytes: %w", len(wrapped), errs.Invalid)
	}
	if err := r.store.Create(ctx, key, blob.Bytes(wrapped)); err != nil {
		return err
	}
	// Without the master key everything is lost: see that what was stored opens, or,
	// where only somebody else can open it, that it is what was put.
	master, err := r.unwrap(ctx, at, []seal.Unlocker{u})
	if errors.Is(err, errs.Unsupported) {
		stored, readErr := blob.ReadAll(ctx, r.store, key, maxKeyBytes)
		if readErr == nil && bytes.Equal(stored, wrapped) {
			return nil
		}
		return fmt.Errorf("read back key %s: %w", id.Short(), errors.Join(readErr, errs.Corrupt))
	}
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if master != m.key {
		return fmt.Errorf("read back key %s: opens to another master key: %w", id.Short(), errs.Corrupt)
	}
	return nil
}

func (r *Repository) unwrap(ctx context.Context, at wrap, unlockers []seal.Unlocker) (seal.MasterKey, error) {
	id, key := at.id, at.object()
	wrapped, err := blob.ReadAll(ctx, r.store, key, maxKeyBytes)
	if err != nil {
		return seal.MasterKey{}, err
	}
	var refusals error
	for _, u := range unlockers {
		master, err := u.Unwrap(wrapped, r.keyAAD(key))
		if err == nil {
			return master, nil
		}
		refusals = errors.Join(refusals, fmt.Errorf("key %s: %w", id.Short(), err))
	}
	if refusals == nil {
		refusals = fmt.Errorf("key %s: no unlocker given: %w", id.Short(), errs.Denied)
	}
	return seal.MasterKey{}, refusals
}

// keyAAD binds a wrap to this very repository.json and to its own place.
func (r *Repository) keyAAD(key string) []byte {
	return append(append([]byte(nil), r.description.Hash[:]...), key...)
}

// aad binds a sealed object to the repository and to its own place.
func (r *Repository) aad(key string) []byte {
	return append(append([]byte(nil), r.description.ID[:]...), key...)
}
