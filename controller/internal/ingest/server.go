package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Options are what a Server needs. All but Copies are required.
type Options struct {
	// Repository gives domains and their keys, and the store.
	Repository *repo.Repository
	// Epoch is the controller's; it goes into every pack.
	Epoch uint64
	// Attempts and Journal are the catalog's.
	Attempts Attempts
	Journal  Journal
	// SpoolDir holds packs while they are filled and put: at most three (192 MiB) an
	// upload stream, and spoolPacks in all. IndexDir holds the chunk indexes, a cache. Both are the
	// server's own; they are made when missing.
	SpoolDir, IndexDir string
	// Logger is told what no caller is told: what recovery found, what runs in the background.
	Logger *zap.Logger
	// Copies give restores and exports what the store does not; nil without.
	Copies Copies
}

// Server implements ChunkService. All methods may be called concurrently.
type Server struct {
	tuskvaultv1.UnimplementedChunkServiceServer
	o     Options
	store blob.Store

	windows  *semaphore.Weighted // bytes under way to us
	puts     *semaphore.Weighted // packs on their way to the store
	spool    *semaphore.Weighted // packs in SpoolDir, open and closed
	commits  *semaphore.Weighted
	ahead    *semaphore.Weighted // bytes read ahead for downloads
	decoding *semaphore.Weighted // of 1: contents may take a gigabyte
	cache    *cache
	distrust distrust // places in the store that are known to be damaged

	calls    sync.WaitGroup // goroutines of calls that may outlive their handlers
	work     sync.WaitGroup // packs on their way to the store
	stopping chan struct{}  // closed when calls must end
	hard     chan struct{}  // closed when puts must end too

	mu        sync.Mutex
	stopped   bool
	domains   map[seal.DomainID]*opening
	jobs      map[jobKey]*jobState
	settling  map[repo.JobID]chan struct{} // snapshots being decided about; closed at the end
	flying    map[pack.ID]bool             // packs on their way to the store
	downloads map[repo.JobID]int           // download streams
	pending   int                          // chunks of all jobs that are in no index file
}

var _ tuskvaultv1.ChunkServiceServer = (*Server)(nil)

// New makes a server. Recover must have returned nil before it is registered,
// and Run must run as long as it is.
func New(o Options) (*Server, error) {
	for _, dir := range []string{o.SpoolDir, o.IndexDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder %s: %w", dir, err)
		}
	}
	return &Server{
		o:         o,
		store:     o.Repository.Store(),
		windows:   semaphore.NewWeighted(windowTotal),
		puts:      semaphore.NewWeighted(storePuts),
		spool:     semaphore.NewWeighted(spoolPacks),
		commits:   semaphore.NewWeighted(commits),
		ahead:     semaphore.NewWeighted(readAheadTotal),
		decoding:  semaphore.NewWeighted(1),
		cache:     newCache(cacheBytes),
		distrust:  distrust{domains: map[seal.DomainID]*distrusted{}},
		stopping:  make(chan struct{}),
		hard:      make(chan struct{}),
		domains:   map[seal.DomainID]*opening{},
		jobs:      map[jobKey]*jobState{},
		settling:  map[repo.JobID]chan struct{}{},
		flying:    map[pack.ID]bool{},
		downloads: map[repo.JobID]int{},
	}, nil
}

// Register adds ChunkService to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { tuskvaultv1.RegisterChunkServiceServer(r, s) }

// stopGrace is how long packs that are being put when the server stops have to
// become durable: most need a second. One that is cut off is taken in by the
// next start.
const stopGrace = 20 * time.Second

// Run does the background work until ctx ends, then ends all calls, waits for
// packs that are being put, and closes the indexes.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(idleJob / 2)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
			s.tidy(ctx)
			if err := errors.Join(s.settleIntents(ctx), s.settleAll(ctx)); err != nil {
				s.o.Logger.Warn("packs or commits were not settled", zap.Error(err))
			}
			s.verifyIndexes(ctx)
		case <-ctx.Done():
			running = false
		}
	}
	return s.stop()
}

func (s *Server) stop() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	close(s.stopping)
	cut := time.AfterFunc(stopGrace, func() { close(s.hard) })
	defer cut.Stop()
	s.calls.Wait()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, o := range s.domains {
		if o.dom != nil {
			err = errors.Join(err, o.dom.set.Close())
		}
	}
	return err
}

// errStopping ends calls when the server stops.
var errStopping = fmt.Errorf("the controller is stopping: %w", errs.Unavailable)

// enter counts a call in; leave must be called when all of it has ended. It
// refuses calls when the server is stopping.
func (s *Server) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, errStopping
	}
	s.calls.Add(1)
	return s.calls.Done, nil
}

// caller gives the agent that calls.
func caller(ctx context.Context) (pki.Peer, error) {
	p, ok := rpc.PeerFrom(ctx)
	if !ok || p.Kind != pki.Agent {
		return p, fmt.Errorf("chunks are moved by agents: %w", errs.Denied)
	}
	return p, nil
}

// authorize finds out what a call may do.
func (s *Server) authorize(ctx context.Context, ref *tuskvaultv1.AttemptRef, kind Kind) (Grant, error) {
	peer, err := caller(ctx)
	if err != nil {
		return Grant{}, err
	}
	job, err := repo.ParseID(ref.GetJobId())
	if err != nil {
		return Grant{}, err
	}
	fence := repo.Fence{Epoch: ref.GetEpoch(), Counter: ref.GetCounter()}
	g, err := s.o.Attempts.Authorize(ctx, repo.AgentID(peer.Agent), job, fence)
	if err != nil {
		return Grant{}, fmt.Errorf("attempt %s of job %s: %w", fence, job, err)
	}
	if g.Kind != kind || g.Job != job || g.Fence != fence {
		return Grant{}, fmt.Errorf("attempt %s of job %s: not granted this: %w", fence, job, errs.Denied)
	}
	return g, nil
}

// watch runs fn until it ends or the attempt does. When the attempt is no longer
// current, or the server stops, it returns at once: the call's end then fails
// whatever fn waits for, and fn ends by itself.
func (s *Server) watch(ctx context.Context, ref *tuskvaultv1.AttemptRef, kind Kind, fn func(ctx context.Context) error) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() { // stop waits for it
		defer leave()
		done <- s.guarded(ctx, fn)
	}()
	check := time.NewTicker(authorizeEvery)
	defer check.Stop()
	for {
		select {
		case err := <-done:
			cancel(nil)
			return err
		case <-check.C:
			if _, err := s.authorize(ctx, ref, kind); err != nil {
				cancel(err)
				return err
			}
		case <-s.stopping:
			cancel(errStopping)
			return errStopping
		case <-ctx.Done():
			err := context.Cause(ctx)
			cancel(err)
			return err
		}
	}
}

// guarded turns a panic into an error: one bad request must not stop the fleet.
func (s *Server) guarded(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.o.Logger.Error("call panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			err = errors.New("internal error; the controller's log has the details")
		}
	}()
	return fn(ctx)
}

// detached gives a context for work that must run to its end although the call
// it belongs to may not last as long: a pack on its way to the store. It ends
// after storeTimeout, or when a stopping server has waited long enough.
func (s *Server) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), storeTimeout,
		fmt.Errorf("the store did not answer within %s: %w", storeTimeout, errs.Timeout))
	ctx, end := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() { // ends with the returned function
		defer close(done)
		select {
		case <-s.hard:
			end(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-done
		end(nil)
	}
}
