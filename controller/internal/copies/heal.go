package copies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// actor is who the trail names for what is done without being asked.
const actor = "controller"

// notHealed tells an answer (there is no good one, or a person must decide) from a
// store's silence.
func notHealed(err error) bool {
	return !errors.Is(err, errs.Unavailable) && !errors.Is(err, context.Canceled) && errs.KindOf(err) != errs.Canceled && errs.KindOf(err) != errs.Timeout
}

// healer is one act of healing.
type healer struct {
	s      *Service
	target blob.Store
	name   string // of the copy that is healed; empty for the repository's own store
	key    string
}

// Heal replaces an object that is damaged or missing in one store (the
// repository's own for an empty name, else that copy) by a good one from another,
// and tells from which. An object that turns out to be whole is left alone, and
// from is empty.
//
// Steps, each durable before the next:
//
//  1. A good one is read from another store, whole, and verified.
//  2. The object is read and seen to be damaged or missing.
//  3. An audit record in the catalog log says what will be replaced.
//  4. The damaged bytes are put under quarantine/<their SHA-256>/<the key>.
//  5. The damaged object is deleted.
//  6. The good one is created under its key.
//  7. What was marked as damaged counts again.
//
// A crash between any two leaves the damaged object, or none, and a good one in
// another store: whoever finds that heals it again, and the steps that were done
// change nothing. Step 4 is why deletion may be paused and this goes on: nothing
// is lost by it.
//
// errs.NotFound means that no other store has a good one; errs.Conflict that the
// object was deleted on purpose, or that it is not certain which store is right.
func (s *Service) Heal(ctx context.Context, store, key string) (from string, err error) {
	h := &healer{s: s, target: s.d.Repository.Store(), name: store, key: key}
	if store != "" {
		f := s.find(store)
		if f == nil {
			return "", fmt.Errorf("heal %s in copy %q: no such copy: %w", key, store, errs.NotFound)
		}
		if h.target = f.reached(); h.target == nil {
			return "", fmt.Errorf("heal %s in copy %s: it was not reached yet: %w", key, store, errs.Unavailable)
		}
	}
	select {
	case s.healing <- struct{}{}:
		defer func() { <-s.healing }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if from, err = h.heal(ctx); err != nil {
		s.log.Warn("object not healed", zap.String("object", key), zap.String("store", where(store)), zap.Error(err))
		return "", fmt.Errorf("heal %s in %s: %w", key, where(store), err)
	}
	return from, nil
}

// where names a store for people.
func where(name string) string {
	if name == "" {
		return "the repository's own store"
	}
	return "copy " + name
}

// reached gives the copy's store, nil before it is known to be a copy.
func (f *follower) reached() blob.Store {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.store
}

func (h *healer) heal(ctx context.Context) (from string, err error) {
	if kindOf(h.key) == kindNone {
		return "", fmt.Errorf("it is no object of a repository: %w", errs.Invalid)
	}
	bad, missing, err := h.look(ctx)
	if err != nil || bad == nil && !missing {
		return "", err
	}
	if missing {
		err = h.mayPutBack(ctx)
	} else {
		err = h.mayReplace(ctx)
	}
	if err != nil {
		return "", err
	}
	good, from, err := h.good(ctx)
	if err != nil {
		return "", errors.Join(err, bad)
	}
	defer good.release()
	if err := h.fits(ctx, good.body); err != nil {
		return "", err
	}
	return from, h.replace(ctx, good.body, from, bad)
}

// look reads the object: bad says what is wrong with one that is damaged.
func (h *healer) look(ctx context.Context) (bad error, missing bool, err error) {
	got, err := h.s.fetch.fetch(ctx, h.target, h.key, nil)
	switch {
	case err == nil:
		got.release()
		return nil, false, h.clear(ctx)
	case errors.Is(err, errs.NotFound):
		return nil, true, nil
	case atFault(ctx, h.target, err):
		return err, false, nil
	}
	return nil, false, err
}

// mayPutBack refuses to bring back what was deleted on purpose, and keys: who may
// open the repository is decided by people.
func (h *healer) mayPutBack(ctx context.Context) error {
	permitted, err := h.s.permitted(ctx, h.key)
	if err != nil {
		return err
	}
	if permitted {
		return fmt.Errorf("it was deleted on purpose: %w", errs.Conflict)
	}
	if kindOf(h.key) == kindKey && h.name == "" {
		return fmt.Errorf("a key is put back by nobody but an operator: %w", errs.Conflict)
	}
	return nil
}

// mayReplace refuses what a store must not be without for a moment, in which the
// program may die: a controller whose claim is damaged reigns on, one that has
// none cannot start; a log that ends earlier looks as if it was set back.
func (h *healer) mayReplace(ctx context.Context) error {
	if n, err := repo.ParseEpochObject(h.key); err == nil && n >= h.s.d.Epoch && h.name == "" {
		return fmt.Errorf("the claim of this controller's own epoch is not replaced: %w", errs.Conflict)
	}
	n, full, err := repo.ParseCatalogObject(h.key)
	if err != nil || full {
		return nil //nolint:nilerr // nothing depends on any other object being the newest
	}
	_, err = h.target.Stat(ctx, repo.LogObject(n+1))
	if errors.Is(err, errs.NotFound) {
		return fmt.Errorf("the newest record of the log is replaced when there is another one after it: %w", errs.Busy)
	}
	return err
}

// good reads a good one from another store: a copy heals from the repository's
// own store first.
func (h *healer) good(ctx context.Context) (fetched, string, error) {
	var failed []error
	try := func(name string, s blob.Store) (fetched, bool) {
		got, err := h.s.fetch.fetch(ctx, s, h.key, nil)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", where(name), err))
		}
		return got, err == nil
	}
	if h.name != "" {
		if got, ok := try("", h.s.d.Repository.Store()); ok {
			return got, "", nil
		}
	}
	for _, f := range h.s.followers {
		s := f.reached()
		if f.o.Name == h.name || s == nil {
			continue
		}
		if got, ok := try(f.o.Name, s); ok {
			f.mu.Lock()
			f.healed++
			f.mu.Unlock()
			return got, f.o.Name, nil
		}
	}
	if len(failed) == 0 {
		failed = []error{fmt.Errorf("no other store was reached yet: %w", errs.Unavailable)}
	}
	return fetched{}, "", fmt.Errorf("no other store has a good one: %w", errors.Join(failed...))
}

// fits tells whether a record of the catalog log is the one that the record after
// it names, or that this controller wrote last: a copy of another past has others.
func (h *healer) fits(ctx context.Context, body blob.Body) error {
	n, full, err := repo.ParseCatalogObject(h.key)
	if err != nil || full {
		return nil //nolint:nilerr // anything else has only one past
	}
	hash := sha256.New()
	if err := blob.CopyBody(hash, body); err != nil {
		return err
	}
	sum := hash.Sum(nil)
	next, _, err := h.s.d.Repository.LogRecord(ctx, n+1)
	switch {
	case err == nil && bytes.Equal(next.Previous[:], sum):
		return nil
	case err != nil && !errors.Is(err, errs.NotFound):
		return err
	case err == nil:
		return fmt.Errorf("record %d of the catalog log names another one before it: %w", n+1, errs.Conflict)
	}
	head := h.head(ctx)
	if head.Number == n && bytes.Equal(head.Hash[:], sum) {
		return nil
	}
	return fmt.Errorf("nothing tells whether it is the record %d that was written: %w", n, errs.Conflict)
}

// head is the newest record that this controller has written.
func (h *healer) head(ctx context.Context) (w catalog.Witness) {
	_ = h.s.d.Catalog.View(ctx, func(tx *catalog.Tx) error { // without it nothing fits
		m, err := tx.Meta()
		w = m.Head
		return err
	})
	return w
}

// replace does steps 3 to 7; bad is nil for an object that is missing.
func (h *healer) replace(ctx context.Context, good blob.Body, from string, bad error) error {
	detail := fmt.Sprintf("missing in %s, put back from %s", where(h.name), where(from))
	var kept string
	var damaged fetched
	if bad != nil {
		var err error
		if damaged, kept, err = h.damaged(ctx); err != nil {
			return fmt.Errorf("keep the damaged one: %w", err)
		}
		defer damaged.release()
		detail = fmt.Sprintf("damaged in %s, replaced from %s, the damaged one kept as %s: %s", where(h.name), where(from), kept, bad.Error())
	}
	class := catalog.Async
	if bad != nil && h.name == "" {
		class = catalog.Sync // before anything is deleted
	}
	err := h.s.d.Catalog.Update(ctx, class, func(tx *catalog.Tx) error {
		return h.s.d.Trail.Append(tx, catalog.AuditRecord{Actor: actor, Action: "repository.heal", Object: "object " + h.key, Outcome: "ok", Detail: detail})
	})
	if err != nil {
		return err
	}
	if bad != nil {
		if err := h.target.Create(ctx, kept, damaged.body); err != nil && !errors.Is(err, errs.Exists) {
			return fmt.Errorf("keep the damaged one: %w", err)
		}
		if err := h.target.Delete(ctx, h.key); err != nil {
			return err
		}
	}
	if err := h.target.Create(ctx, h.key, good); err != nil && !errors.Is(err, errs.Exists) {
		return err
	}
	if left, missing, err := h.look(ctx); err != nil || left != nil || missing {
		return errors.Join(fmt.Errorf("what was put is not what is there: %w", errs.Corrupt), left, err)
	}
	h.s.log.Warn("object healed", zap.String("object", h.key), zap.String("store", where(h.name)), zap.String("detail", detail))
	h.s.d.Events.Publish(event.Event{Kind: event.ObjectHealed, Message: h.key + ": " + detail})
	if f := h.s.find(h.name); f != nil {
		f.mu.Lock()
		f.healed++
		f.mu.Unlock()
	}
	return nil
}

// clear lets a pack that is whole count again.
func (h *healer) clear(ctx context.Context) error {
	domain, id, err := repo.ParsePackObject(h.key)
	if err != nil || h.name != "" {
		return nil //nolint:nilerr // only packs of the repository's own store are marked
	}
	return h.s.d.Marks.Clear(ctx, domain, id)
}

// damaged reads the damaged object into a spool file, as far as it can be read,
// and gives the key under which it is kept.
func (h *healer) damaged(ctx context.Context) (_ fetched, key string, err error) {
	file, err := os.CreateTemp(h.s.fetch.dir, spoolPattern)
	if err != nil {
		return fetched{}, "", diskError(err)
	}
	path := file.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(path) // what is left is removed at the next start
		}
	}()
	sum := sha256.New()
	err = h.readable(ctx, io.MultiWriter(diskWriter{file}, sum))
	if err = errors.Join(err, file.Close()); err != nil {
		return fetched{}, "", err
	}
	key = repo.QuarantinePrefix + hex.EncodeToString(sum.Sum(nil)) + "/" + h.key
	return fetched{body: blob.File(path), release: func() { _ = os.Remove(path) }}, key, nil
}

// readable reads what of the object can be read.
func (h *healer) readable(ctx context.Context, to io.Writer) error {
	r, err := h.target.Open(ctx, h.key, 0, -1)
	if err != nil {
		if atFault(ctx, h.target, err) {
			return nil
		}
		return err
	}
	_, err = io.Copy(to, r)
	if err = errors.Join(err, r.Close()); atFault(ctx, h.target, err) {
		return nil // the beginning of it is kept
	}
	return err
}
