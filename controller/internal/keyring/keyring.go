// Package keyring manages the ways to open the repository: it lists, adds and
// removes them, takes the word of a recovery sheet, and turns seal keys over.
// That a key exists is the store's word; what is known of it beside, the
// catalog's.
package keyring

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

// Catalog opens transactions. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
}

// Service manages keys. Its methods may be called concurrently.
type Service struct {
	repository *repo.Repository
	log        *repo.Log
	catalog    Catalog
	trail      Trail
	logger     *zap.Logger
	busy       chan struct{} // holds one token while the master key is changed
}

// New makes a Service; l is the log that this controller writes.
func New(r *repo.Repository, l *repo.Log, c Catalog, t Trail, logger *zap.Logger) *Service {
	return &Service{repository: r, log: l, catalog: c, trail: t, logger: logger.Named("keys"), busy: make(chan struct{}, 1)}
}

// By is who asks, and from where.
type By struct{ Actor, Address string }

// Key is one way to open the repository.
type Key struct {
	catalog.Key
	// Kind in words, or why it cannot be told.
	Kind string
	// InUse tells that the running controller opened the repository with it.
	InUse bool
}

// maxName bounds the name of a key.
const maxName = 63

// List gives the keys that are in the store, by id; at most 64.
func (s *Service) List(ctx context.Context) ([]Key, error) {
	ids, err := s.repository.KeyIDs(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Key, len(ids))
	for i, id := range ids {
		if out[i], err = s.key(ctx, id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Service) key(ctx context.Context, id repo.ID) (Key, error) {
	k := Key{Key: catalog.Key{ID: id}, InUse: id == s.repository.OpenedBy()}
	kind, err := s.repository.KeyKind(ctx, id)
	switch {
	case err == nil:
		k.Kind = kind.String()
	case errors.Is(err, errs.Corrupt), errors.Is(err, errs.Unsupported):
		k.Kind = err.Error()
	default:
		return k, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		known, err := tx.Key(id)
		if err == nil {
			k.Key = known
		} else if !errors.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
	if k.Name == "" && id == repo.ID(s.repository.ID()) {
		k.Name = "first"
	}
	return k, err
}

// Protected tells whether the loss of one secret still leaves another one: two
// keys that are on no sheet, or a sheet that somebody has confirmed to exist.
func (s *Service) Protected(ctx context.Context) (bool, error) {
	keys, err := s.List(ctx)
	if err != nil {
		return false, err
	}
	n := 0
	for _, k := range keys {
		if k.Sheet && !k.Confirmed.IsZero() {
			return true, nil
		}
		if !k.Sheet {
			n++
		}
	}
	return n >= 2, nil
}

// Add adds a key with a random id that the caller has chosen, in this order:
//
//  1. What is known of it, with an audit record, is in the store's log. A crash
//     after it leaves a record of a key that does not exist, which nobody sees.
//  2. The key object is put, and read back.
//
// The same id again is errs.Exists.
func (s *Service) Add(ctx context.Context, k catalog.Key, u seal.Unlocker, what string, by By) (Key, error) {
	if k.ID.IsZero() || len(k.Name) > maxName || strings.ContainsFunc(k.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Key{}, fmt.Errorf("add key: without id, or its name is longer than %d bytes or not printable: %w", maxName, errs.Invalid)
	}
	ids, err := s.repository.KeyIDs(ctx)
	if err != nil {
		return Key{}, err
	}
	if slices.Contains(ids, k.ID) {
		return Key{}, fmt.Errorf("add key %s: %w", k.ID.Short(), errs.Exists)
	}
	if r, ok := u.(*unlock.Recipient); ok {
		k.Recipient = r.String() // so that it can be wrapped anew without anybody's help
	}
	k.Created, k.CreatedBy = time.Now(), by.Actor
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutKey(k), s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "key.add",
			Object: "key " + k.ID.String(), Outcome: audit.OK, Detail: fmt.Sprintf("%s %q", what, k.Name)}))
	})
	if err != nil {
		return Key{}, fmt.Errorf("add key: %w", err)
	}
	if err := s.repository.AddKey(ctx, k.ID, u); err != nil {
		return Key{}, err
	}
	return s.key(ctx, k.ID)
}

// Remove removes a key, found by its id or a unique prefix of it, in this order:
//
//  1. The catalog forgets it, with an audit record, in the store's log, unless
//     deletion is paused.
//  2. The key object goes.
//
// A crash between leaves a key without a name; removing it again finishes. The
// last key, and the one the controller itself uses, are errs.Conflict.
func (s *Service) Remove(ctx context.Context, ref string, by By) (repo.ID, error) {
	id, err := s.find(ctx, ref)
	if err != nil {
		return id, fmt.Errorf("remove key: %w", err)
	}
	ids, err := s.repository.KeyIDs(ctx)
	switch {
	case err != nil:
		return id, err
	case len(ids) == 1:
		return id, fmt.Errorf("remove key %s: it is the last one: %w", id.Short(), errs.Conflict)
	case id == s.repository.OpenedBy():
		return id, fmt.Errorf("remove key %s: this controller opens the repository with it; start it with another one (--unlock) first: %w", id.Short(), errs.Conflict)
	}
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		if err := tx.MayDelete(); err != nil {
			return err
		}
		return errors.Join(tx.DeleteKey(id), tx.PermitDelete(time.Now(), s.repository.KeyObject(id)), s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "key.remove",
			Object: "key " + id.String(), Outcome: audit.OK}))
	})
	if err != nil {
		return id, fmt.Errorf("remove key %s: %w", id.Short(), err)
	}
	return id, s.repository.RemoveKey(ctx, id)
}

// find gives the key whose id begins with ref.
func (s *Service) find(ctx context.Context, ref string) (found repo.ID, err error) {
	ids, err := s.repository.KeyIDs(ctx)
	if err != nil {
		return found, err
	}
	n := 0
	for _, id := range ids {
		if ref != "" && strings.HasPrefix(id.String(), strings.ToLower(ref)) {
			found, n = id, n+1
		}
	}
	switch n {
	case 0:
		return found, fmt.Errorf("key %q: %w", ref, errs.NotFound)
	case 1:
		return found, nil
	}
	return found, fmt.Errorf("key %q: %d keys begin so: %w", ref, n, errs.Conflict)
}

// Confirm notes that the sheet with this word exists. A word of no sheet is
// errs.NotFound. One synchronous transaction with its audit record.
func (s *Service) Confirm(ctx context.Context, word string, by By) (Key, error) {
	keys, err := s.List(ctx)
	if err != nil {
		return Key{}, err
	}
	want := unlock.Confirmation(word)
	at := slices.IndexFunc(keys, func(k Key) bool { return k.Sheet && subtle.ConstantTimeCompare(k.Confirmation[:], want[:]) == 1 })
	if at < 0 {
		return Key{}, fmt.Errorf("confirm recovery sheet: no sheet of this repository has that word: %w", errs.NotFound)
	}
	k := keys[at].Key
	k.Confirmed, k.ConfirmedBy = time.Now(), by.Actor
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutKey(k), s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "key.confirm",
			Object: "key " + k.ID.String(), Outcome: audit.OK, Detail: k.Name}))
	})
	if err != nil {
		return Key{}, fmt.Errorf("confirm recovery sheet: %w", err)
	}
	return s.key(ctx, k.ID)
}

// Rotate begins a new seal epoch in every domain, and tells in how many. In this
// order: an audit record is in the store's log; each domain gets its next
// generation. A crash in between leaves some domains with a new epoch, which
// harms nothing; repeating it gives every domain another one. Packs stay as they
// are: what was sealed before keeps its key, which restores are given.
func (s *Service) Rotate(ctx context.Context, by By) (domains int, err error) {
	err = s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		return s.trail.Append(tx, catalog.AuditRecord{Actor: by.Actor, Address: by.Address, Action: "key.rotate", Object: "every domain", Outcome: audit.OK})
	})
	if err != nil {
		return 0, fmt.Errorf("rotate seal keys: %w", err)
	}
	var all []seal.DomainID // 16 bytes each
	if err := s.repository.Domains(ctx, func(d seal.DomainID) error { all = append(all, d); return nil }); err != nil {
		return 0, fmt.Errorf("rotate seal keys: %w", err)
	}
	for _, id := range all {
		d, err := s.repository.Domain(ctx, id)
		if err == nil {
			_, err = d.BumpSealEpoch(ctx)
		}
		if err != nil && !errors.Is(err, errs.Conflict) { // a conflict means that it has just been done
			return domains, fmt.Errorf("rotate seal keys: %d of %d domains done: %w", domains, len(all), err)
		}
		domains++
	}
	return domains, nil
}

// Compare orders keys for lists: the oldest first, those without a time before.
func Compare(a, b Key) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID.String(), b.ID.String()))
}
