package copies

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// The bounds of what a round remembers. What is beyond is counted, and found
// again by the next round.
const (
	// maxPlanned bounds the objects of a kind: 50,000 packs are 3 TB, and with all
	// kinds a plan takes some 30 MB.
	maxPlanned = 50_000
	// maxStrange bounds the objects that differ or are missing here.
	maxStrange = 1000
)

// plan is what a comparison found.
type plan struct {
	// missing in the copy, by kind, in the order of their keys.
	missing map[kind][]blob.Info
	// cut are the kinds of which more is missing than was remembered.
	cut map[kind]bool
	// objects and bytes not copied yet; oldest is the time of the oldest, if the
	// store tells.
	objects, bytes int64
	oldest         time.Time
	// differ are objects of other sizes here and there.
	differ []string
	// strays are in the copy and not here, at most maxStrange; strayCount counts all.
	strays     []string
	strayCount int64
	// newest is the number of the newest record of the log here, oldestLog the key of
	// its oldest object when the whole log was listed.
	newest    uint64
	oldestLog string
}

// compare lists both stores, what refers before what is referred to; see the
// package's comment. after is the key from which on the log is compared.
func compare(ctx context.Context, from, to blob.Store, after string) (*plan, error) {
	p := &plan{missing: map[kind][]blob.Info{}, cut: map[kind]bool{}}
	if err := p.compareLog(ctx, from, to, after); err != nil {
		return nil, fmt.Errorf("compare with the copy: %w", err)
	}
	for _, prefix := range []string{repo.SnapshotsPrefix, repo.IndexesPrefix, repo.PacksPrefix,
		repo.EpochsPrefix, repo.CAPrefix, repo.DomainsPrefix, repo.KeysPrefix} {
		if err := merge(ctx, from, to, prefix, "", p.take); err != nil {
			return nil, fmt.Errorf("compare with the copy: %w", err)
		}
	}
	return p, nil
}

// take takes in one key: here is nil when it is only there.
func (p *plan) take(here, there *blob.Info) error {
	switch {
	case here == nil:
		p.strayCount++
		if len(p.strays) < maxStrange {
			p.strays = append(p.strays, there.Key)
		}
	case there == nil:
		p.miss(*here)
	case here.Size != there.Size && len(p.differ) < maxStrange:
		p.differ = append(p.differ, here.Key)
	}
	return nil
}

func (p *plan) miss(info blob.Info) {
	p.objects++
	p.bytes += info.Size
	if !info.Modified.IsZero() && (p.oldest.IsZero() || info.Modified.Before(p.oldest)) {
		p.oldest = info.Modified
	}
	of := kindOf(info.Key)
	if len(p.missing[of]) >= maxPlanned {
		p.cut[of] = true
		return
	}
	p.missing[of] = append(p.missing[of], info)
}

// compareLog compares the catalog log. A copy without any begins at the newest
// full record: what is before it nobody needs to replay. Objects in the copy
// beyond the end of the log here are strays; older ones than here are not, since
// the log's own rule removes them.
func (p *plan) compareLog(ctx context.Context, from, to blob.Store, after string) error {
	begun, err := holds(ctx, to, repo.CatalogPrefix)
	if err != nil {
		return err
	}
	var beyond []string
	first := uint64(0) // of the copy
	err = merge(ctx, from, to, repo.CatalogPrefix, after, func(here, there *blob.Info) error {
		if here == nil {
			n, _, err := repo.ParseCatalogObject(there.Key)
			if first == 0 {
				first = n
			}
			if n > p.newest {
				beyond = append(beyond[:min(len(beyond), maxStrange)], there.Key)
			}
			return err
		}
		n, full, err := repo.ParseCatalogObject(here.Key)
		if err != nil {
			return err
		}
		if p.oldestLog == "" {
			p.oldestLog = here.Key
		}
		p.newest = max(p.newest, n)
		switch {
		case there != nil:
			if first == 0 {
				first = n
			}
			return p.take(here, there)
		case !begun && full: // nothing before it is needed
			p.forget(kindLog)
		case begun && after == "" && first == 0:
			return nil // before the place where the copy's log begins
		}
		p.miss(*here)
		return nil
	})
	for _, key := range beyond {
		if n, _, err := repo.ParseCatalogObject(key); err == nil && n > p.newest {
			p.strayCount++
			p.strays = append(p.strays, key)
		}
	}
	return err
}

// forget takes back what is missing of the log.
func (p *plan) forget(of kind) {
	for _, info := range p.missing[of] {
		p.objects--
		p.bytes -= info.Size
	}
	p.missing[of], p.cut[of], p.oldest = nil, false, time.Time{}
}

// merge walks along the objects of two stores together and calls fn for each key
// of an object: with nil for the store that has none.
func merge(ctx context.Context, here, there blob.Store, prefix, after string, fn func(here, there *blob.Info) error) error {
	nextHere, stopHere := iter.Pull2(listing(ctx, here, prefix, after))
	defer stopHere()
	nextThere, stopThere := iter.Pull2(listing(ctx, there, prefix, after))
	defer stopThere()
	a, errA, okA := nextHere()
	b, errB, okB := nextThere()
	for okA || okB {
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		var err error
		switch {
		case okA && okB && a.Key == b.Key:
			err = fn(&a, &b)
			a, errA, okA = nextHere()
			b, errB, okB = nextThere()
		case okA && (!okB || a.Key < b.Key):
			err = fn(&a, nil)
			a, errA, okA = nextHere()
		default:
			err = fn(nil, &b)
			b, errB, okB = nextThere()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listing gives the objects of a store; an error is the last that it gives.
func listing(ctx context.Context, s blob.Store, prefix, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		errLeft := errors.New("nobody wants more")
		err := s.List(ctx, prefix, after, func(info blob.Info) error {
			if kindOf(info.Key) != kindNone && !yield(info, nil) {
				return errLeft
			}
			return nil
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(blob.Info{}, err)
		}
	}
}

// holds tells whether there is any object under a prefix.
func holds(ctx context.Context, s blob.Store, prefix string) (bool, error) {
	errFound := fmt.Errorf("found: %w", errs.Exists)
	err := s.List(ctx, prefix, "", func(blob.Info) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}
