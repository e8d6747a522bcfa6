package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
)

// proof is the drill of one database.
type proof struct {
	*Ground
	s       *server
	j       job.Job
	source  stream.Source
	content *repo.Content
	d       *repo.Database
	out     *report.Database
	rec     *record
	told    *relay
	at      int
}

// run restores the database, looks at it, and drops it, so that the next one has
// its room. The error is what kept the restore from its end; everything that is
// found is in the report.
func (p *proof) run(ctx context.Context) error {
	began := time.Now()
	err := p.restore(ctx)
	p.rec.phase("restore", p.out.Name, began)
	if err != nil {
		return err
	}
	if err := p.s.letIn(ctx, p.d.Name); err != nil {
		return err
	}
	if err := p.measure(ctx); err != nil {
		return err
	}
	began = time.Now()
	p.told.phase(p.at, job.PhaseAmcheck)
	p.s.amcheck(ctx, p.d.Name, plan.Jobs(p.j.Drill.Jobs), p.out)
	p.rec.phase("amcheck", p.out.Name, began)
	began = time.Now()
	p.told.phase(p.at, job.PhaseAssertions)
	p.assert(ctx)
	p.rec.phase("assertions", p.out.Name, began)
	began = time.Now()
	if err := p.s.drop(ctx, p.d.Name); err != nil && ctx.Err() == nil {
		p.rec.reporter.Log("warn", fmt.Sprintf("database %s stays until the end: %v", p.out.Name, err))
	}
	p.rec.phase("drop", p.out.Name, began)
	return p.s.lostServer()
}

// restore restores the database under its own name. The server is ours alone:
// whatever it has of that name is replaced, and what roles are missing are made.
func (p *proof) restore(ctx context.Context) error {
	request := job.Restore{Snapshot: p.j.Drill.Snapshot, Databases: []job.Mapping{{Source: p.out.Name}}, Jobs: p.j.Drill.Jobs, Replace: true, Globals: true, ReadBack: true}
	planned, err := load.Prepare(ctx, load.Options{Config: p.s.cfg, Source: p.source, Reporter: p.told, CompareAll: true,
		Memory: host.Look(p.o.Base).MemoryBytes / 4, // the host has other work
	}, p.content, p.j.ID, request)
	if err == nil {
		err = planned.Plan().Err()
	}
	if err != nil {
		p.out.Reason, p.out.Damaged = err.Error(), damaged(err)
		return err
	}
	o := planned.Run(ctx)
	take(p.out, o)
	return o.Err
}

// assert runs the assertions of the database.
func (p *proof) assert(ctx context.Context) {
	n := 0
	for _, a := range p.j.Drill.Assertions {
		if a.Database == p.out.Name {
			p.out.Assertions[n] = p.s.assert(ctx, p.d.Name, a)
			n++
		}
	}
}

// measure finds out how large the database is here, and which versions of
// extensions and locale it has, beside those of the snapshot.
func (p *proof) measure(ctx context.Context) error {
	c, err := postgres.Connect(ctx, p.s.cfg, p.d.Name, application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := c.One(ctx, &p.out.DiskBytes, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"); err != nil {
		return err
	}
	here := map[pg.Name]string{}
	var name pg.Name
	var version string
	err = c.Each(ctx, "SELECT extname::text, extversion FROM pg_catalog.pg_extension", nil, []any{&name, &version}, func() error {
		here[name] = version
		return nil
	})
	if err != nil {
		return err
	}
	for _, x := range p.d.Extensions {
		p.out.Extensions = append(p.out.Extensions, fmt.Sprintf("%s %s in the snapshot, %s here", x.Name.Display(), x.Version, here[x.Name]))
	}
	return p.locale(ctx, c)
}

// locale compares the versions of the provider of locales.
func (p *proof) locale(ctx context.Context, c *postgres.Conn) error {
	props, err := repo.PropertiesOf(p.d)
	if err != nil {
		return err
	}
	locale := props.Locale
	if props.Provider == "libc" {
		locale = props.Collate.Display()
	}
	p.out.Locale = props.Provider + " " + locale
	if c.Version.Major() < 15 {
		return nil
	}
	var version string
	if err := c.One(ctx, &version, "SELECT coalesce(datcollversion, '') FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"); err != nil {
		return err
	}
	if version != "" || props.CollationVersion != "" {
		p.out.Locale += fmt.Sprintf(", version %q in the snapshot, %q here", props.CollationVersion, version)
	}
	return nil
}

// drop drops a database that was looked at. One with subscriptions stays: they
// would have to be dropped first, and the server goes soon.
func (s *server) drop(ctx context.Context, name pg.Name) error {
	c, err := postgres.ConnectMaintenance(ctx, s.cfg, application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	var subscriptions int
	if err := c.One(ctx, &subscriptions, `SELECT count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE d.datname = $1`, name); err != nil {
		return err
	}
	if subscriptions > 0 {
		return fmt.Errorf("it has subscriptions: %w", errs.Conflict)
	}
	return s.exec(ctx, c, "ALTER DATABASE "+name.Quote()+" IS_TEMPLATE false", "DROP DATABASE "+name.Quote()+" WITH (FORCE)")
}

// tablespaces gives the names of the snapshot's tablespaces.
func tablespaces(content *repo.Content) ([]pg.Name, error) {
	var all []pg.Name
	for _, raw := range content.Logical.Globals.Tablespaces {
		var t repo.TablespaceFacts
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("tablespaces in the manifest: %w: %w", err, errs.Corrupt)
		}
		if t.Name != "pg_default" && t.Name != "pg_global" {
			all = append(all, t.Name)
		}
	}
	return all, nil
}

func literal(s string) string { return pg.Name(s).Literal() }
