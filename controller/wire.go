package controller

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/clock"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/distrust"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/erase"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/export"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/controller/internal/lockkeeper"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/controller/internal/vault"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/version"
)

// wired is everything that runs, put together.
type wired struct {
	controller *Controller
	repository *repo.Repository
	meta       catalog.Meta
	exporter   *export.Exporter
	manager    *job.Manager
	hub        *fleet.Hub
	trail      *audit.Service
	events     *event.Log
	keyring    *keyring.Service
	eraser     *erase.Service
	distrust   *distrust.Service
	authorizer *api.Authorizer
	ingest     *ingest.Server
	marks      *scrub.Marks
	checker    *scrub.Checker
	scrubber   *scrub.Scrubber
	pruner     *prune.Runner
	clock      *clock.Guard
	users      *forget.Users
	purger     *forget.Purger
	copies     *copies.Service
	locks      *lockkeeper.Keeper
	server     *grpc.Server
}

// wire makes every part and names each to those that need it. Nothing runs yet.
func (c *Controller) wire(ctx context.Context, r *repo.Repository, cat *catalog.Catalog) (*wired, error) {
	meta, err := readMeta(ctx, cat, r, &c.config)
	if err != nil {
		return nil, err
	}
	w := &wired{controller: c, repository: r, meta: meta}
	log, err := c.openLog(ctx, r, w.meta)
	if err != nil {
		return nil, err
	}
	issuer, err := openAuthority(ctx, r, w.meta.Epoch)
	if err != nil {
		return nil, err
	}
	jobs, keys := c.config.Jobs, vault.New(r)
	w.exporter = export.New(cat, log, c.log)
	w.trail = audit.New(cat, c.log)
	w.events = event.New(c.started, event.Size)
	w.keyring = keyring.New(r, log, cat, w.trail, c.log)
	start := &starter{config: &c.config, repository: r, catalog: cat, trail: w.trail, log: c.log}
	if err := start.compare(ctx, log, meta.Head); err != nil {
		return nil, err
	}
	found := &snapshots{Vault: keys, repository: r, catalog: cat}
	w.manager = job.New(cat, found, job.Options{Lease: jobs.Lease, Attempts: jobs.Attempts, Backoff: jobs.Backoff, PerAgent: jobs.PerAgent}, c.log)
	w.hub = fleet.NewHub(fleet.Deps{Catalog: cat, Jobs: w.manager, Keys: keys, Trail: w.trail, Events: w.events, Witness: cat.Head, Base: meta.Base, Holds: w.holds, Log: c.log},
		fleet.Options{Build: build(), Epoch: w.meta.Epoch, Heartbeat: jobs.HeartbeatInterval, Lease: jobs.Lease})
	w.manager.Attach(w.hub)
	w.manager.Announce(w.events)
	words := journal{jobs: w.manager, catalog: cat, stored: func() { w.copies.Wake() }}
	w.ingest, err = ingest.New(ingest.Options{Repository: r, Epoch: w.meta.Epoch, Attempts: words, Journal: words,
		SpoolDir: c.config.spoolFolder(), IndexDir: c.config.indexFolder(), Logger: c.log, Copies: w.elsewhere(cat)})
	if err != nil {
		return nil, err
	}
	found.ingest = w.ingest
	w.distrust = distrust.New(r, cat, w.trail, w.ingest, c.log)
	w.eraser = erase.New(r, cat, w.trail, w.ingest, c.log)
	if err := w.watchOver(ctx, cat); err != nil {
		return nil, err
	}
	if err := w.prune(cat); err != nil {
		return nil, err
	}
	w.clock = clock.New(cat, r.Store(), w.hub.Clocks, c.log)
	w.users = &forget.Users{}
	w.purger = forget.NewPurger(forget.Deps{Catalog: cat, Store: r.Store(), Clock: w.clock, Trail: w.trail, Events: w.events, Users: w.users, Delay: c.config.Delete.Delay, Log: c.log})
	return w, w.serveOn(cat, issuer, keys)
}

// watchOver makes what looks for damage in the store.
func (w *wired) watchOver(ctx context.Context, cat *catalog.Catalog) error {
	c := &w.controller.config
	u, err := unlocker(c.Unlock)
	if err != nil {
		return err
	}
	log := w.controller.log
	w.marks = scrub.NewMarks(cat, w.ingest, w.events, log)
	w.copies = copies.New(copies.Deps{Repository: w.repository, Epoch: w.meta.Epoch, Unlockers: []seal.Unlocker{u}, Catalog: cat, Trail: w.trail, Events: w.events,
		Marks: w.marks, Head: cat.Head, Dir: c.copyFolder(), Log: log}, c.copyOptions()...)
	w.checker = scrub.NewChecker(scrub.Deps{Repository: w.repository, Unlockers: []seal.Unlocker{u}, Catalog: cat, Known: scrub.NewKnown(cat), Marks: w.marks, Events: w.events,
		Trail: w.trail, Dir: c.checkFolder(), Log: log, Copies: w.copies})
	w.scrubber = scrub.NewScrubber(w.repository, cat, w.marks, w.copies, scrub.Options{BytesPerDay: int64(c.Scrub.DailyBytes), Interval: c.Scrub.Interval}, log)
	w.locks = lockkeeper.New(w.repository.Store(), cat, nil, log)
	return w.noteStore(ctx, cat)
}

// openLog goes on with the catalog log where the catalog knows it to be: before
// its first record, when the catalog has noted none. What a process put and died
// before noting is put again with the same bytes and recognized.
func (c *Controller) openLog(ctx context.Context, r *repo.Repository, m catalog.Meta) (*repo.Log, error) {
	return repo.OpenLogAt(ctx, r, m.Epoch, repo.Witness{Repository: m.Repository, Epoch: m.Head.Epoch, Number: m.Head.Number, Hash: m.Head.Hash})
}

// holds tells whether the store's log holds what a witness saw.
func (w *wired) holds(ctx context.Context, seen catalog.Witness) error {
	return w.repository.CheckWitness(ctx, repo.Witness{Repository: seen.Repository, Epoch: seen.Epoch, Number: seen.Number, Hash: seen.Hash})
}

// serveOn makes the server with all services.
func (w *wired) serveOn(cat *catalog.Catalog, issuer *pki.Issuer, keys *vault.Vault) error {
	c := w.controller
	own := pki.NewServerCertificate(issuer, pki.LeafLife)
	tls, err := pki.ServerTLS(issuer.Root(), own.Certificate)
	if err != nil {
		return err
	}
	conns := api.NewConnections(api.DefaultBounds())
	w.authorizer = api.NewAuthorizer(w.repository.ID(), cat, w.trail, conns)
	w.server = rpc.NewServer(rpc.ServerOptions{TLS: tls, Public: api.Methods(), Lenient: api.Lenient(), Log: c.log}, w.authorizer.ServerOptions(tls)...)
	w.ingest.Register(w.server)
	healthv1.RegisterHealthServer(w.server, health.NewServer())
	api.Register(w.server, api.Deps{Catalog: cat, Jobs: w.manager, Hub: w.hub, Enroll: enroll.New(cat, issuer, w.trail, c.log), Trail: w.trail,
		Keys: keys, Keyring: w.keyring, Eraser: w.eraser, Distrust: w.distrust, Manifests: api.NewManifests(w.repository), Plains: plains{w.ingest}, Conns: conns, Events: w.events, Level: c.logging, Log: c.log, Checks: w.checker, Prunes: w.pruner, Copies: w.copies,
		Deletion: api.Deletion{Delay: c.config.Delete.Delay, ClockDoubt: w.clock.Doubt,
			CheckClock: func(ctx context.Context) error { return w.clock.Check(ctx, false) }, Deferred: w.purger.Deferred, Users: w.users},
		Measure: func(ctx context.Context) (*check.Measured, error) {
			return check.Measure(ctx, w.repository.Store())
		},
		Facts: api.Facts{Build: build(), Name: w.meta.Name, Started: c.started, Repository: w.repository.ID(), Epoch: w.meta.Epoch,
			Store:     w.repository.Store().Features().Location,
			ExportLag: func(ctx context.Context) (time.Duration, error) { age, _, err := cat.Waiting(ctx); return age, err },
			Protected: w.keyring.Protected, Head: cat.Head}})
	return nil
}

// nag says at each start what the loss of one secret would mean.
func (w *wired) nag(ctx context.Context) {
	if safe, err := w.keyring.Protected(ctx); err == nil && !safe {
		w.controller.log.Warn("one key alone opens the repository: if it is lost, every snapshot is lost",
			zap.String("hint", "tuskctl repo key export, print it, keep it elsewhere, and tuskctl repo key confirm"))
	}
}

func build() catalog.Build {
	b := version.Get()
	return catalog.Build{Version: b.Version, Revision: b.Revision, Capability: b.Capability, Platform: b.Platform}
}
