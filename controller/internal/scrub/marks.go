package scrub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Catalog is where everything is kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Distruster does not count what is damaged. *ingest.Server implements it.
type Distruster interface {
	Distrust(bad ...check.BadPack)
	Trust(domain seal.DomainID, packs ...pack.ID)
}

// maxMarks bounds the packs that are known to be damaged: with more, whole disks
// are gone and the store is what must be mended. They take at most 10 KiB each in
// the catalog, and twice that in memory.
const maxMarks = check.MaxBadPacks

// mostTold bounds the events of one finding: the rest is counted.
const mostTold = 10

// Marks are the packs of which something must not be relied on. The methods may
// be called concurrently.
type Marks struct {
	catalog Catalog
	ingest  Distruster
	events  *event.Log
	log     *zap.Logger
}

// NewMarks makes Marks; Load tells the ingest what earlier processes found.
func NewMarks(c Catalog, d Distruster, events *event.Log, log *zap.Logger) *Marks {
	return &Marks{catalog: c, ingest: d, events: events, log: log.Named("scrub")}
}

// Load tells the ingest what is known to be damaged. It must have returned
// before the first upload is served.
func (m *Marks) Load(ctx context.Context) error {
	known, err := m.known(ctx)
	if err != nil {
		return fmt.Errorf("load what is damaged: %w", err)
	}
	m.ingest.Distrust(known...)
	return nil
}

func (m *Marks) known(ctx context.Context) (out []check.BadPack, err error) {
	err = m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			out = append(out, fromRecord(p))
		}
		return nil
	})
	return out, err
}

// Mark notes damaged packs, durably, and then tells the ingest. A crash in
// between leaves a record that the next start loads.
func (m *Marks) Mark(ctx context.Context, bad ...check.BadPack) error {
	if len(bad) == 0 {
		return nil
	}
	kept := bad[:0:0]
	var news []check.BadPack
	err := m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		kept, news = kept[:0], nil
		count := 0
		for _, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			count++
		}
		for _, b := range bad {
			old, err := tx.DamagedPack(b.Domain, b.Pack)
			found := time.Now().UTC().Round(0)
			switch {
			case err == nil:
				found = old.Found
			case !errors.Is(err, errs.NotFound):
				return err
			case count >= maxMarks:
				continue
			default:
				count++
				news = append(news, b)
			}
			kept = append(kept, b)
			if err := tx.PutDamagedPack(toRecord(b, found)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note damaged packs: %w", err)
	}
	m.ingest.Distrust(kept...)
	for i, b := range news {
		if i == mostTold {
			m.events.Publish(event.Event{Kind: event.DamageFound, Message: fmt.Sprintf("and %d packs more are damaged", len(news)-i)})
			break
		}
		what := "it cannot be relied on at all"
		if !b.Whole {
			what = fmt.Sprintf("bad frames: %d", len(b.Frames))
		}
		m.events.Publish(event.Event{Kind: event.DamageFound, Message: repo.PackObject(b.Domain, b.Pack) + " is damaged: " + what})
	}
	for _, b := range kept {
		m.log.Error("pack is damaged", zap.String("object", repo.PackObject(b.Domain, b.Pack)), zap.Bool("whole", b.Whole), zap.Int("frames", len(b.Frames)))
	}
	return nil
}

// Clear notes that packs are whole or gone.
func (m *Marks) Clear(ctx context.Context, domain seal.DomainID, packs ...pack.ID) error {
	var marked []pack.ID
	err := m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for _, id := range packs {
			_, err := tx.DamagedPack(domain, catalog.PackID(id))
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			marked = append(marked, id)
		}
		return nil
	})
	if err != nil || len(marked) == 0 {
		return err
	}
	err = m.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		for _, id := range marked {
			if err := tx.DeleteDamagedPack(domain, catalog.PackID(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget damaged packs: %w", err)
	}
	m.ingest.Trust(domain, marked...)
	m.events.Publish(event.Event{Kind: event.DamageHealed, Message: fmt.Sprintf("%d packs of domain %s that were damaged are whole again or gone, the first is %s",
		len(marked), domain, marked[0].Short())})
	m.log.Info("packs that were damaged are whole again or gone", zap.Stringer("domain", domain), zap.Int("packs", len(marked)))
	return nil
}

// Replace takes a report that covers every pack for all that is known.
func (m *Marks) Replace(ctx context.Context, bad []check.BadPack) error {
	type key struct {
		domain seal.DomainID
		pack   pack.ID
	}
	still := map[key]bool{}
	for _, b := range bad {
		still[key{b.Domain, b.Pack}] = true
	}
	known, err := m.known(ctx)
	if err != nil {
		return err
	}
	for _, k := range known {
		if !still[key{k.Domain, k.Pack}] {
			if err := m.Clear(ctx, k.Domain, k.Pack); err != nil {
				return err
			}
		}
	}
	return m.Mark(ctx, bad...)
}

func toRecord(b check.BadPack, found time.Time) catalog.DamagedPack {
	p := catalog.DamagedPack{Domain: b.Domain, Pack: catalog.PackID(b.Pack), Whole: b.Whole, Found: found}
	for _, f := range b.Frames {
		p.Frames = append(p.Frames, catalog.DamagedFrame{Name: f.Name, Offset: f.Offset})
	}
	return p
}

func fromRecord(p catalog.DamagedPack) check.BadPack {
	b := check.BadPack{Domain: p.Domain, Pack: pack.ID(p.Pack), Whole: p.Whole}
	for _, f := range p.Frames {
		b.Frames = append(b.Frames, check.BadFrame{Name: f.Name, Offset: f.Offset})
	}
	return b
}
