package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/distrust"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/erase"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/controller/internal/vault"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	repocheck "github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a controller without its programs: real catalog, repository,
// certificates and gRPC, over a listener in memory.
type world struct {
	t          *testing.T
	catalog    *catalog.Catalog
	counted    *counting // what the hub uses
	repository *repo.Repository
	issuer     *pki.Issuer
	trail      *audit.Service
	enroll     *enroll.Service
	hub        *fleet.Hub
	jobs       *fakeJobs
	conns      *api.Connections
	checks     *scrub.Checker
	prunes     *prune.Runner
	listener   *bufconn.Listener
	level      *fakeLevel
	events     *event.Log
	plains     *fakePlains
	witness    catalog.Witness
	distrusted distrusted
	doubt      string // of the clock
	stop       context.CancelFunc
}

// fakeLevel is the controller's log level.
type fakeLevel struct {
	mu   sync.Mutex
	name string
}

func (f *fakeLevel) SetLevel(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name = name
	return nil
}

// counting counts the catalog's read-write transactions that the hub makes.
type counting struct {
	*catalog.Catalog
	updates atomic.Int64
}

func (c *counting) Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error {
	c.updates.Add(1)
	return c.Catalog.Update(ctx, class, fn)
}

// newWorld starts a controller. It stops with the test, and nothing of it may be left.
func newWorld(t *testing.T) *world {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zapLevel))
	w := &world{t: t, jobs: newFakeJobs(), conns: api.NewConnections(bounds), listener: bufconn.Listen(1 << 20), level: &fakeLevel{}, plains: &fakePlains{}, events: event.New(time.Now(), 100)}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.repository, err = repo.Init(ctx, mem.New(), repo.Options{Unlocker: seal.NewKeyFile(), Name: "test"})
	must(err)
	w.catalog = openCatalog(t, filepath.Join(t.TempDir(), "catalog.db"), w.repository.ID())
	w.counted = &counting{Catalog: w.catalog}
	root, err := pki.NewRoot(w.repository.ID(), time.Now())
	must(err)
	w.issuer, err = root.Issuer(1, time.Now())
	must(err)
	w.witness = catalog.Witness{Repository: w.repository.ID(), Epoch: 1, Number: 10}
	w.trail = audit.New(w.catalog, log)
	w.enroll = enroll.New(w.catalog, w.issuer, w.trail, log)
	w.hub = fleet.NewHub(fleet.Deps{Catalog: w.counted, Jobs: w.jobs, Keys: vault.New(w.repository), Trail: w.trail, Events: w.events,
		Witness: func() catalog.Witness { return w.witness }, Holds: func(context.Context, catalog.Witness) error { return nil }, Log: log}, fleet.Options{Epoch: 1, Build: catalog.Build{Version: "test", Capability: 1}})
	w.jobs.hub = w.hub
	authorizer := api.NewAuthorizer(w.repository.ID(), w.catalog, w.trail, w.conns)

	w.checks = scrub.NewChecker(scrub.Deps{Repository: w.repository, Catalog: w.catalog, Known: scrub.NewKnown(w.catalog),
		Marks: scrub.NewMarks(w.catalog, noIngest{}, w.events, log), Events: w.events, Trail: w.trail, Dir: filepath.Join(t.TempDir(), "check"), Log: log})
	w.prunes = prune.NewRunner(prune.Deps{Repository: w.repository, Catalog: w.catalog, Chunks: noIngest{}, Trail: w.trail, Adopt: func(context.Context) error { return nil },
		Clear: func(context.Context, seal.DomainID, ...pack.ID) error { return nil }, Dir: filepath.Join(t.TempDir(), "prune"), Epoch: 1, Log: log}, prune.Options{MinAge: time.Hour, Budget: 1 << 30})
	config, err := pki.ServerTLS(w.issuer.Root(), pki.NewServerCertificate(w.issuer, pki.LeafLife).Certificate)
	must(err)
	server := rpc.NewServer(rpc.ServerOptions{TLS: config, Public: api.Methods(), Lenient: api.Lenient(), Log: log}, authorizer.ServerOptions(config)...)
	api.Register(server, api.Deps{Catalog: w.catalog, Jobs: w.jobs, Hub: w.hub, Enroll: w.enroll, Trail: w.trail, Keys: vault.New(w.repository),
		Keyring: keyring.New(w.repository, nil, w.catalog, w.trail, log), Manifests: api.NewManifests(w.repository), Plains: w.plains, Conns: w.conns, Events: w.events, Level: w.level, Log: log, Checks: w.checks, Prunes: w.prunes,
		Distrust: distrust.New(w.repository, w.catalog, w.trail, &w.distrusted, log), Eraser: erase.New(w.repository, w.catalog, w.trail, noIngest{}, log),
		Deletion: api.Deletion{Delay: 72 * time.Hour, ClockDoubt: func() string { return w.doubt }, CheckClock: w.checkClock, Users: &forget.Users{}},
		Measure: func(ctx context.Context) (*repocheck.Measured, error) {
			return repocheck.Measure(ctx, w.repository.Store())
		},
		Facts: api.Facts{Build: catalog.Build{Version: "test", Capability: 1}, Name: "test", Started: time.Now(), Repository: w.repository.ID(), Epoch: 1, Store: "mem:"}})
	tuskvaultv1.RegisterChunkServiceServer(server, tuskvaultv1.UnimplementedChunkServiceServer{})
	healthv1.RegisterHealthServer(server, health.NewServer())

	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(w.listener) })
	running.Go(func() { check(t, "hub", w.hub.Run(ctx)) })
	running.Go(func() { check(t, "sweep", authorizer.RunSweep(ctx)) })
	running.Go(func() { check(t, "audit", w.trail.Run(ctx)) })
	running.Go(func() { check(t, "checks", w.checks.Run(ctx)) })
	running.Go(func() { check(t, "prunes", w.prunes.Run(ctx)) })
	t.Cleanup(func() {
		stop()
		server.Stop()
		running.Wait()
	})
	return w
}

func (w *world) checkClock(context.Context) error {
	if w.doubt != "" {
		return fmt.Errorf("the clock is in doubt: %s: %w", w.doubt, errs.Conflict)
	}
	return nil
}

// distrusted notes what an index is told not to answer for.
type distrusted struct {
	mu    sync.Mutex
	packs []pack.ID
}

func (d *distrusted) DistrustHost(_ seal.DomainID, packs ...pack.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.packs = append(d.packs, packs...)
}

func (d *distrusted) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.packs)
}

// noIngest has no chunks to distrust.
type noIngest struct{}

func (noIngest) Distrust(...repocheck.BadPack)   {}
func (noIngest) Trust(seal.DomainID, ...pack.ID) {}
func (noIngest) Forget(seal.DomainID) error      { return nil }

// What a prune asks for.
func (noIngest) Condemn(seal.DomainID, []pack.ID) func([]repo.JobID) { return func([]repo.JobID) {} }
func (noIngest) Pardon(seal.DomainID, []pack.ID)                     {}
func (noIngest) CopyFrames(context.Context, ingest.Copying) (int64, error) {
	return 0, errs.Unsupported
}
func (noIngest) ReplaceIndexes(context.Context, seal.DomainID, []pack.ID, func(context.Context, pack.ID) (bool, error)) error {
	return errs.Unsupported
}
func (noIngest) DropPacks(context.Context, seal.DomainID, []pack.ID) error { return errs.Unsupported }
func (noIngest) HasPack(context.Context, seal.DomainID, pack.ID) (bool, error) {
	return true, nil
}
func (noIngest) Damaged(seal.DomainID, pack.ID, int64) bool { return false }

func check(t *testing.T, what string, err error) {
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// dial connects with a certificate, or without one when it is nil.
func (w *world) dial(cert *tls.Certificate) *grpc.ClientConn {
	w.t.Helper()
	var own pki.CertificateSource
	if cert != nil {
		own = func() (*tls.Certificate, error) { return cert, nil }
	}
	config, err := pki.ClientTLS(w.issuer.Root(), own)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.dialTLS(config)
}

func (w *world) dialTLS(config *tls.Config) *grpc.ClientConn {
	w.t.Helper()
	conn, err := rpc.Dial("memory", config, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// identity is an enrolled agent, or an operator.
type identity struct {
	id   repo.AgentID
	name string
	cert *tls.Certificate
}

// token makes a join token and gives its credential.
func (w *world) token(spec enroll.TokenSpec) string {
	w.t.Helper()
	if spec.TTL == 0 {
		spec.TTL = time.Hour
	}
	if spec.Request.IsZero() {
		spec.Request = repo.NewID()
	}
	_, text, err := w.enroll.CreateToken(w.t.Context(), spec, enroll.By{Actor: "operator/test"})
	if err != nil {
		w.t.Fatal(err)
	}
	return credential(w.t, text)
}

func credential(t *testing.T, text string) string {
	t.Helper()
	token, err := pki.ParseJoinToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token.Credential()
}

// agent enrolls an agent.
func (w *world) agent(name string) identity {
	w.t.Helper()
	return w.enrollWith(w.token(enroll.TokenSpec{Name: name}), name)
}

func (w *world) enrollWith(credential, name string) identity {
	w.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := w.enroll.Enroll(w.t.Context(), enroll.Request{Credential: credential, Name: name, CSR: csr, Address: name + ":1"})
	if err != nil {
		w.t.Fatal(err)
	}
	return identity{id.Agent, id.Name, &tls.Certificate{Certificate: id.Chain, PrivateKey: key}}
}

// operator makes an operator with a role.
func (w *world) operator(name string, role catalog.Role) identity {
	w.t.Helper()
	return w.operatorFor(name, role, pki.LeafLife)
}

// operatorFor makes an operator whose certificate has a life.
func (w *world) operatorFor(name string, role catalog.Role, life time.Duration) identity {
	w.t.Helper()
	cert, chain := issueOperator(w.t, w.issuer, name, life)
	err := w.catalog.Update(w.t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
		return tx.PutOperator(catalog.Operator{Name: name, Role: role, Created: time.Now(),
			Certificates: []catalog.Certificate{{Fingerprint: pki.FingerprintOf(chain.Leaf), Issued: time.Now(), Expires: chain.Leaf.NotAfter}}})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return identity{name: name, cert: cert}
}

func issueOperator(t *testing.T, issuer *pki.Issuer, name string, life time.Duration) (*tls.Certificate, pki.Chain) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := issuer.IssueOperator(csr, name, time.Now(), life)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain.Certificates, PrivateKey: key, Leaf: chain.Leaf}, chain
}

// view reads the catalog.
func (w *world) view(fn func(tx *catalog.Tx) error) {
	w.t.Helper()
	if err := w.catalog.View(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// audited gives the trail's records of an action.
func (w *world) audited(action string) (out []catalog.AuditRecord) {
	w.t.Helper()
	w.view(func(tx *catalog.Tx) error {
		page := catalog.Page{Size: catalog.MaxPage}
		for {
			rows, next, err := tx.Audit(page)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Action == action {
					out = append(out, r)
				}
			}
			if page.Token = next; next == "" {
				return nil
			}
		}
	})
	return out
}

// wantKind fails unless err is of the kind and its text has all of the words.
func wantKind(t *testing.T, err error, kind *errs.Kind, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want kind %q", err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %q, which does not say %q", err, word)
		}
	}
}
