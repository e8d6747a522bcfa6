package ingest_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/ingest/ingesttest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// world is a controller's chunk side with everything around it, and disks that
// outlive it.
type world struct {
	t       testing.TB
	power   *ingesttest.Power
	store   *ingesttest.Store
	catalog *ingesttest.Catalog
	repo    *repo.Repository
	key     *seal.KeyFile
	dir     string
	issuer  *pki.Issuer
	domain  seal.DomainID
	copies  ingest.Copies

	server *ingest.Server
	listen func() (net.Listener, func(context.Context, string) (net.Conn, error))
	dial   func(context.Context, string) (net.Conn, error)
	stop   func()

	address string // set when it listens on TCP
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, mem.New())
}

// newWorldOn makes a world whose repository is in an empty store.
func newWorldOn(t testing.TB, s blob.Store) *world {
	t.Helper()
	w := &world{t: t, power: &ingesttest.Power{}, dir: t.TempDir(), key: seal.NewKeyFile()}
	w.store = ingesttest.NewStore(s, w.power)
	w.catalog = ingesttest.NewCatalog(w.power)
	var err error
	w.repo, err = repo.Init(t.Context(), w.store, repo.Options{Unlocker: w.key, Name: "test", ChunkParams: chunk.DefaultParams})
	must(t, err)
	w.domain, err = w.repo.CreateDomain(t.Context())
	must(t, err)
	root, err := pki.NewRoot(w.repo.ID(), time.Now())
	must(t, err)
	w.issuer, err = root.Issuer(1, time.Now())
	must(t, err)
	w.listen = func() (net.Listener, func(context.Context, string) (net.Conn, error)) {
		l := bufconn.Listen(1 << 20)
		return l, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	}
	return w
}

// start recovers and serves until stop.
func (w *world) start() {
	w.t.Helper()
	server, err := ingest.New(ingest.Options{
		Repository: w.repo, Epoch: 1, Attempts: w.catalog, Journal: w.catalog,
		SpoolDir: filepath.Join(w.dir, "spool"), IndexDir: filepath.Join(w.dir, "index"),
		Logger: zaptest.NewLogger(w.t), Copies: w.copies,
	})
	must(w.t, err)
	must(w.t, server.Recover(w.t.Context()))
	tlsConfig, err := pki.ServerTLS(w.issuer.Root(), pki.NewServerCertificate(w.issuer, 24*time.Hour).Certificate)
	must(w.t, err)
	g := rpc.NewServer(rpc.ServerOptions{TLS: tlsConfig, Log: zaptest.NewLogger(w.t)})
	server.Register(g)
	l, dial := w.listen()
	w.server, w.dial = server, dial
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	}()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(l) // ends with Stop
	}()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		g.Stop()
		<-served
		<-done
	}
	w.t.Cleanup(w.stop)
}

// restart stops the controller and starts it anew on the same disks.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// agent enrolls an agent with an instance in the world's domain.
func (w *world) agent() *agent {
	w.t.Helper()
	a := &agent{w: w, id: repo.NewID(), instance: repo.NewID(), domain: w.domain}
	key, err := pki.NewKey()
	must(w.t, err)
	csr, err := pki.NewRequest(key)
	must(w.t, err)
	chain, err := w.issuer.IssueAgent(csr, a.id, time.Now(), 24*time.Hour)
	must(w.t, err)
	a.identity, err = pki.NewIdentity(key, chain.Certificates, w.issuer.Root().Raw, time.Now())
	must(w.t, err)
	a.useDomain(w.domain)
	return a
}

// connect gives a connection as the agent; it is closed at the test's end.
func (w *world) connect(a *agent) *grpc.ClientConn {
	w.t.Helper()
	config, err := a.identity.ClientTLS()
	must(w.t, err)
	conn, err := rpc.Dial("controller.test:1", config, grpc.WithContextDialer(w.dial))
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
