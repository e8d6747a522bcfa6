package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Chosen says what of a database is restored, where that is not all of it.
type Chosen struct {
	// Selective: there were patterns.
	Selective bool
	// Tables whose rows come, by their names in the snapshot.
	Tables []SelectedTable
	// Along and LeftOut are told to people; see package selection.
	Along, LeftOut []selection.Note
	// Unmatched are patterns that match nothing in this database.
	Unmatched []selection.Miss
	// Unsure name a mapped role in a way that cannot be told from other text.
	Unsure []selection.Note
	// Damaged are tables whose rows cannot be read whole.
	Damaged []Damage
	// Live is what was found in the database in use, nil when there is none.
	Live *LiveFacts
}

// SelectedTable is a table whose rows come.
type SelectedTable struct {
	Name sqltext.QualifiedName
	Rows int64
}

// Damage is what is known to be damaged of a table before anything is read of it.
type Damage struct {
	// Object is "table S.T" or "large objects".
	Object string
	// Reason names what is missing.
	Reason string
}

// shaper makes of what is in the snapshot what is restored.
type shaper struct {
	selector *selection.Selector // nil for whole databases
	names    selection.Names
	data     bool // sections wanted
	post     bool
}

func newShaper(r job.Restore) (*shaper, error) {
	s := &shaper{data: r.Wants(job.Data), post: r.Wants(job.PostData)}
	if r.Selective() {
		var err error
		if s.selector, err = selection.New(r.Schemas, r.Tables); err != nil {
			return nil, err
		}
	}
	var err error
	if s.names.Roles, err = names(r.Roles); err != nil {
		return nil, fmt.Errorf("role map: %w", err)
	}
	if s.names.Tablespaces, err = names(r.Tablespaces); err != nil {
		return nil, fmt.Errorf("tablespace map: %w", err)
	}
	return s, nil
}

func names(all []job.Mapping) (map[pg.Name]pg.Name, error) {
	out := map[pg.Name]pg.Name{}
	for _, m := range all {
		source, ok := fromDisplay(m.Source)
		target, ok2 := fromDisplay(m.Target)
		if !ok || !ok2 || len(target) > maxIdentifier {
			return nil, fmt.Errorf("%s=%s: no name: %w", m.Source, m.Target, errs.Invalid)
		}
		out[source] = target
	}
	return out, nil
}

// shape gives what is restored of a database. damaged tables come without rows.
func (s *shaper) shape(d *repo.Database, a *pgarchive.Archive, damaged map[sqltext.QualifiedName]bool) (*selection.Part, []selection.Note, error) {
	part := selection.Whole(d, a)
	if s.selector != nil {
		var err error
		if part, err = s.selector.Choose(d, a); err != nil {
			return nil, nil, err
		}
	}
	if !s.data || !s.post {
		if err := selection.Sections(part, s.data, s.post); err != nil {
			return nil, nil, err
		}
	}
	if err := selection.Without(part, damaged); err != nil {
		return nil, nil, err
	}
	unsure, err := s.names.Apply(part)
	own := *part.Database // the whole's may be shared
	own.Size = sizeOf(d, part.Database, s.names.Tablespaces)
	part.Database = &own
	return part, unsure, err
}

// asked is one database that a restore is asked for.
type asked struct {
	source  *repo.Database // in the snapshot
	named   bool           // by the request
	part    *selection.Part
	chosen  *Chosen
	damaged map[sqltext.QualifiedName]bool
	objects bool // large objects are damaged
	needs   *Needs
}

// choose reads one database's archive, decides what is restored of it, and checks
// that the lists of that can be read and that its chunks are there: what is
// missing must be found before the target is touched.
func (p *planner) choose(ctx context.Context, d *repo.Database, named bool) (*asked, error) {
	a, err := stream.ReadArchive(ctx, p.source, d)
	if err != nil {
		return nil, err
	}
	one := &asked{source: d, named: named, chosen: &Chosen{Selective: p.shaper.selector != nil}, damaged: map[sqltext.QualifiedName]bool{}}
	if one.part, one.chosen.Unsure, err = p.shaper.shape(d, a, nil); err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name.Display(), err)
	}
	if err := p.checkStreams(ctx, one); err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name.Display(), err)
	}
	if p.request.SkipDamaged && (len(one.damaged) > 0 || one.objects) {
		if one.part, _, err = p.shaper.shape(one.intact(), a, one.damaged); err != nil {
			return nil, fmt.Errorf("database %s: %w", d.Name.Display(), err)
		}
	}
	c := one.chosen
	for i := range one.part.Database.Tables {
		t := &one.part.Database.Tables[i]
		c.Tables = append(c.Tables, SelectedTable{sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}, t.Rows})
	}
	c.Along, c.LeftOut, c.Unmatched = one.part.Along, one.part.LeftOut, one.part.Unmatched
	return one, nil
}

// intact is the database without large objects that are damaged.
func (o *asked) intact() *repo.Database {
	if !o.objects {
		return o.source
	}
	d := *o.source
	d.LargeObjects = nil
	return &d
}

// checkStreams notes which tables are known to be damaged.
func (p *planner) checkStreams(ctx context.Context, one *asked) error {
	d := one.part.Database
	for i := range d.Tables {
		t := &d.Tables[i]
		q := sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}
		for j := range t.Runs {
			err := p.source.Check(ctx, t.Runs[j].Stream)
			if err == nil {
				continue
			}
			if !errors.Is(err, errs.Corrupt) {
				return fmt.Errorf("table %s: %w", q, err)
			}
			one.damaged[q] = true
			one.chosen.Damaged = append(one.chosen.Damaged, Damage{"table " + q.String(), err.Error()})
			break
		}
	}
	if d.LargeObjects == nil {
		return nil
	}
	for _, s := range []repo.Stream{d.LargeObjects.Meta, d.LargeObjects.Data} {
		if err := p.source.Check(ctx, s); err != nil {
			if !errors.Is(err, errs.Corrupt) {
				return fmt.Errorf("large objects: %w", err)
			}
			one.objects = true
			one.chosen.Damaged = append(one.chosen.Damaged, Damage{"large objects", err.Error()})
			return nil
		}
	}
	return nil
}

// readNeeds finds out what the part that is restored needs of the server.
func (p *planner) readNeeds(ctx context.Context, one *asked) error {
	d := one.part.Database
	if p.request.Live { // the database is there, with what it needs itself
		own := *d
		own.Properties, own.Settings, own.PublicOwner = json.RawMessage("{}"), nil, ""
		d = &own
	}
	n, err := needsOf(d, one.part.Archive)
	if err != nil {
		return err
	}
	n.Chosen = one.chosen
	one.needs = n
	if o := one.part.Database.LargeObjects; o != nil && !p.request.NoOwner && !one.objects {
		if err := addObjects(ctx, n, p.source, o, p.shaper.names); err != nil {
			return fmt.Errorf("database %s: large objects: %w", one.source.Name.Display(), err)
		}
	}
	return nil
}

// Archive reads a database's archive again and gives what is restored of it, as
// it was planned: all archives of an instance are not kept meanwhile. The plan is
// one that Make made.
func (p *Plan) Archive(ctx context.Context, source stream.Source, d *DatabasePlan) (*pgarchive.Archive, error) {
	one := p.asked[d.Source]
	a, err := stream.ReadArchive(ctx, source, one.source)
	if err != nil {
		return nil, err
	}
	if d.Live != nil { // small, and made with what was found in the live database
		return one.part.Archive, nil
	}
	var damaged map[sqltext.QualifiedName]bool
	if p.Request.SkipDamaged {
		damaged = one.damaged
	}
	part, _, err := p.shaper.shape(one.intact(), a, damaged)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", one.source.Name.Display(), err)
	}
	return part.Archive, nil
}

// missing gives the patterns that match in none of several databases.
func missing(all []*asked) []selection.Miss {
	var out []selection.Miss
	for i, one := range all {
		if i == 0 {
			out = one.chosen.Unmatched
			continue
		}
		out = slices.DeleteFunc(slices.Clone(out), func(m selection.Miss) bool {
			return !slices.ContainsFunc(one.chosen.Unmatched, func(o selection.Miss) bool { return o.Pattern == m.Pattern })
		})
	}
	return out
}
