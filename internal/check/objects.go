package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Bounds of what is remembered of the listing: far above any real number.
const (
	maxKeyObjects   = 64 // docs/FORMAT.md, "Objects"
	maxSmallObjects = 1 << 20
)

// listing is what one walk over all keys remembers.
type listing struct {
	keys, cas, domains, successions []string
	epochs                          []uint64
}

// checkObjects walks over all keys, then looks at the small objects.
func (c *checker) checkObjects(ctx context.Context) error {
	c.phase(PhaseObjects)
	var l listing
	err := c.store.List(ctx, "", "", func(info blob.Info) error {
		c.count(info)
		if err := l.take(info.Key, c.domains); err != nil {
			c.strange(info.Key)
		}
		if len(l.cas)+len(l.domains)+len(l.epochs)+len(c.domains) > maxSmallObjects {
			return fmt.Errorf("more than %d objects that are usually few: %w", maxSmallObjects, errs.Exhausted)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.id.IsZero() && c.repo == nil && len(l.keys) == 0 && len(l.domains) == 0 {
		return fmt.Errorf("%s holds no repository: %w", c.store.Features().Location, errs.NotFound)
	}
	return errors.Join(c.checkKeys(ctx, l.keys), c.checkSuccessions(ctx, l.successions), c.checkEpochs(ctx, l.epochs), c.checkCAs(ctx, l.cas), c.checkDomainRecords(ctx, l.domains))
}

// count counts an object.
func (c *checker) count(info blob.Info) {
	kind := known(info.Key)
	n := c.report.Objects[kind]
	c.report.Objects[kind] = ObjectCount{Objects: n.Objects + 1, Bytes: n.Bytes + info.Size}
}

// known is the kind of an object. Unknown ones are counted together: their names
// are not ours.
func known(key string) string {
	kind := kindOf(key)
	switch kind {
	case "repository", "keys", "domains", "ca", "epochs", "packs", "index", "snapshots", "catalog", "ballast", "quarantine":
		return kind
	}
	return "unknown"
}

// take tells what a key is of; an error means that no object has such a key.
func (l *listing) take(key string, domains map[seal.DomainID]*domainRecord) (err error) {
	var domain seal.DomainID
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case repo.DescriptionObject, "quarantine": // kept because it is damaged
		return nil
	case "keys":
		if _, err = repo.ParseSuccessionObject(key); err == nil {
			l.successions = append(l.successions, key)
			return nil
		}
		l.keys = append(l.keys, key)
		_, _, err = repo.ParseKeyObject(key)
		return err
	case "ca":
		l.cas = append(l.cas, key)
		_, _, err = repo.ParseCAObject(key)
		return err
	case "epochs":
		n, err := repo.ParseEpochObject(key)
		if err == nil {
			l.epochs = append(l.epochs, n)
		}
		return err
	case "snapshots":
		_, _, err = repo.ParseSnapshotObject(key)
		return err
	case "catalog":
		_, _, err = repo.ParseCatalogObject(key)
		return err
	case "ballast":
		_, err = repo.ParseBallastObject(key)
		return err
	case "domains":
		if domain, _, err = repo.ParseDomainObject(key); err == nil {
			l.domains = append(l.domains, key)
		}
	case "packs":
		domain, _, err = repo.ParsePackObject(key)
	case "index":
		domain, _, err = repo.ParseIndexObject(key)
	default:
		return errs.Invalid
	}
	if err == nil && domains[domain] == nil {
		domains[domain] = &domainRecord{}
	}
	return err
}

// strange makes a finding of a key that no object has. Below one of our prefixes
// that is damage; elsewhere somebody has put a file of his own.
func (c *checker) strange(key string) {
	switch kind := kindOf(key); {
	case slices.Contains([]string{"keys", "ca", "epochs", "snapshots", "catalog", "domains", "packs", "index"}, kind):
		c.add(Finding{Object: key, Problem: Unknown, Detail: "no object of a repository has such a key"})
	default:
		c.add(Finding{Object: key, Problem: Unknown, Detail: "it is no part of a repository", Harmless: true})
	}
}

func (c *checker) checkKeys(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		c.add(Finding{Object: repo.KeysPrefix, Problem: Missing, Detail: "there is no key: whoever does not have the repository open cannot open it any more"})
	}
	if len(keys) > maxKeyObjects {
		c.add(Finding{Object: repo.KeysPrefix, Problem: Unknown, Detail: fmt.Sprintf("%d keys, there can be %d", len(keys), maxKeyObjects)})
		keys = keys[:maxKeyObjects]
	}
	for _, key := range keys {
		id, master, err := repo.ParseKeyObject(key)
		if err != nil {
			continue // it is a finding already
		}
		err = repo.InspectKey(ctx, c.store, key)
		if err == nil && c.repo != nil && len(c.o.Unlockers) > 0 && master == c.repo.Master() {
			if err = c.repo.VerifyKey(ctx, id, c.o.Unlockers); errors.Is(err, errs.Denied) && !errors.Is(err, errs.Corrupt) {
				err = nil // another's
			}
		}
		if err != nil && !c.gone(ctx, key, err) {
			if err := c.failed(ctx, key, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSuccessions reads the objects with which master keys took over. All but
// the one in force are left-overs that go some day.
func (c *checker) checkSuccessions(ctx context.Context, keys []string) error {
	for _, key := range keys {
		master, err := repo.ParseSuccessionObject(key)
		if err == nil && c.repo != nil {
			err = c.repo.InspectSuccession(ctx, master)
		} else if err == nil {
			err = repo.InspectSuccession(ctx, c.store, master)
		}
		if err != nil && !c.gone(ctx, key, err) {
			if err := c.failed(ctx, key, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) checkEpochs(ctx context.Context, epochs []uint64) error {
	next := uint64(1)
	for _, n := range epochs {
		if n != next {
			c.add(Finding{Object: repo.EpochObject(next), Problem: Missing, Detail: fmt.Sprintf("epochs go from %d to %d", next-1, n)})
		}
		next = n + 1
		c.latestEpoch = n
		var err error
		if c.repo != nil {
			_, err = c.repo.Epoch(ctx, n)
		} else {
			err = c.readable(ctx, repo.EpochObject(n))
		}
		if err != nil {
			if err := c.failed(ctx, repo.EpochObject(n), err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) checkCAs(ctx context.Context, keys []string) error {
	for _, key := range keys {
		serial, master, err := repo.ParseCAObject(key)
		if err != nil {
			continue // it is a finding already
		}
		if c.repo != nil && master == c.repo.Master() {
			_, err = c.repo.CA(ctx, serial)
		} else {
			err = c.readable(ctx, key)
		}
		if err != nil {
			if err := c.failed(ctx, key, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealedLeast is the length of a sealed blob of nothing.
const sealedLeast = 28

// readable reads a sealed object of which nothing can be told without keys but
// its size.
func (c *checker) readable(ctx context.Context, key string) error {
	b, err := blob.ReadAll(ctx, c.store, key, repo.MaxObjectBytes(key))
	if err == nil && len(b) < sealedLeast {
		err = fmt.Errorf("%s: %d bytes: %w", key, len(b), errs.Corrupt)
	}
	return err
}

// domainWalk is what the generations of one domain have in common.
type domainWalk struct {
	cut    chunk.Params
	keys   seal.DomainKeys
	opened bool
}

// checkDomainRecords reads every generation of every domain; keys come in order.
func (c *checker) checkDomainRecords(ctx context.Context, keys []string) error {
	walks := map[seal.DomainID]*domainWalk{}
	master := uint64(0)
	if c.repo != nil {
		master = c.repo.Master()
	}
	for _, key := range keys {
		id, generation, err := repo.ParseDomainObject(key)
		if err != nil {
			continue // it is a finding already
		}
		if erased, err := c.erased(ctx, id); err != nil {
			return err
		} else if erased {
			continue
		}
		d := c.domains[id]
		if d.newest > 0 && generation != d.newest+1 {
			c.add(Finding{Object: repo.DomainObject(id, d.newest+1), Problem: Missing, Detail: fmt.Sprintf("generations go from %d to %d", d.newest, generation)})
		}
		d.newest = generation
		if walks[id] == nil {
			walks[id] = &domainWalk{}
		}
		if err := c.checkDomainRecord(ctx, key, d, walks[id]); err != nil && !c.gone(ctx, key, err) {
			if err := c.failed(ctx, key, err); err != nil {
				return err
			}
		}
	}
	if c.repo == nil || master != c.repo.Master() {
		return nil // where the master key has just changed, the list is too old
	}
	for id, w := range walks {
		if d := c.domains[id]; d.present && !w.opened {
			c.add(Finding{Object: repo.DomainObject(id, d.newest), Problem: Damaged, Detail: fmt.Sprintf("no generation of the domain is sealed under master key %d, which is in force", master)})
		}
	}
	return nil
}

func (c *checker) checkDomainRecord(ctx context.Context, key string, d *domainRecord, w *domainWalk) error {
	text, err := blob.ReadAll(ctx, c.store, key, repo.MaxObjectBytes(key))
	if err != nil {
		return err
	}
	r, err := repo.InspectDomain(key, text)
	if err != nil {
		return err
	}
	if w.cut != (chunk.Params{}) && w.cut != r.Cut {
		return fmt.Errorf("%s: cuts by %+v, the generation before by %+v: %w", key, r.Cut, w.cut, errs.Corrupt)
	}
	w.cut = r.Cut
	if c.repo != nil && r.Master == c.repo.Master() {
		keys, err := c.repo.OpenDomainRecord(key, text)
		if err != nil {
			return err
		}
		if w.opened && keys != w.keys {
			return fmt.Errorf("%s: holds other roots than the generation before: %w", key, errs.Corrupt)
		}
		w.keys, w.opened = keys, true
	}
	d.present, d.sealEpoch = true, max(d.sealEpoch, r.SealEpoch)
	return nil
}

// domainKnows looks once more at a domain's records, for a seal epoch that began
// while the check was under way.
func (c *checker) domainKnows(ctx context.Context, id seal.DomainID, epoch uint32) (bool, error) {
	if d := c.domains[id]; d != nil && d.present && d.sealEpoch >= epoch {
		return true, nil
	}
	found := false
	err := c.store.List(ctx, repo.DomainPrefix(id), "", func(info blob.Info) error {
		text, err := blob.ReadAll(ctx, c.store, info.Key, repo.MaxObjectBytes(info.Key))
		if err == nil {
			if r, err := repo.InspectDomain(info.Key, text); err == nil && r.SealEpoch >= epoch {
				found = true
			}
		}
		return c.fatal(ctx, err)
	})
	return found, err
}

// epochKnown tells whether a controller epoch was claimed.
func (c *checker) epochKnown(ctx context.Context, epoch uint64) (bool, error) {
	if epoch <= c.latestEpoch {
		return true, nil
	}
	_, err := c.store.Stat(ctx, repo.EpochObject(epoch))
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, c.fatal(ctx, err)
}

// wantEpoch makes a finding of a controller epoch that an object names and that
// was never claimed.
func (c *checker) wantEpoch(ctx context.Context, epoch uint64, by string) error {
	known, err := c.epochKnown(ctx, epoch)
	if err != nil || known {
		return err
	}
	c.add(Finding{Object: repo.EpochObject(epoch), Problem: Missing, Detail: by + " is of this epoch: the store was rolled back, or the object was never written"})
	return nil
}
