package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is any service: gRPC's own health check, whose methods do what a test says.
type service struct {
	health.UnimplementedHealthServer
	check func(ctx context.Context, r *health.HealthCheckRequest) error
	watch func(st grpc.ServerStreamingServer[health.HealthCheckResponse]) error
}

func (s *service) Check(ctx context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if err := s.check(ctx, r); err != nil {
		return nil, err
	}
	return &health.HealthCheckResponse{}, nil
}

func (s *service) Watch(_ *health.HealthCheckRequest, st grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	return s.watch(st)
}

// world is a server and an agent's identity.
type world struct {
	t       *testing.T
	issuer  *pki.Issuer
	service *service
	options rpc.ServerOptions
	logs    *observer.ObservedLogs
	lis     *bufconn.Listener
	stop    context.CancelFunc
	done    chan error
	// hole swallows what clients write, as a network that is cut does.
	hole atomic.Bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := pki.NewRoot([16]byte{1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	w := &world{t: t, service: &service{}, logs: logs}
	if w.issuer, err = root.Issuer(1, time.Now()); err != nil {
		t.Fatal(err)
	}
	config, err := pki.ServerTLS(root.Certificate(), pki.NewServerCertificate(w.issuer, pki.LeafLife).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	w.options = rpc.ServerOptions{TLS: config, Log: zap.New(core)}
	return w
}

// serve starts the server.
func (w *world) serve() {
	s := rpc.NewServer(w.options)
	health.RegisterHealthServer(s, w.service)
	w.lis = bufconn.Listen(1 << 20)
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done = stop, make(chan error, 1)
	go func() { w.done <- rpc.Serve(ctx, s, w.lis, 10*time.Second) }()
}

// end stops the server and waits.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Errorf("serve: %v", err)
	}
}

// identity issues an agent's identity.
func (w *world) identity(life time.Duration) *pki.Identity {
	w.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.issuer.IssueAgent(csr, [16]byte{7}, time.Now(), life)
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := pki.NewIdentity(key, chain.Certificates, w.issuer.Root().Raw, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// cut is a connection into the hole.
type cut struct {
	net.Conn
	w *world
}

func (c cut) Write(b []byte) (int, error) {
	if c.w.hole.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (w *world) dial(source pki.CertificateSource) *grpc.ClientConn {
	w.t.Helper()
	config, err := pki.ClientTLS(w.issuer.Root(), source)
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := rpc.Dial("controller:7443", config, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := w.lis.DialContext(ctx)
		return cut{c, w}, err
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// bubble runs a test with a served world and an agent's client.
func bubble(t *testing.T, fn func(t *testing.T, w *world, client health.HealthClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		conn := w.dial(pki.NewHolder(w.identity(24 * time.Hour)).Certificate)
		fn(t, w, health.NewHealthClient(conn))
		_ = conn.Close()
		w.end()
	})
}

func TestEveryKindOfFailureKeepsItsKindAndItsMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		for _, kind := range errs.All() {
			sent := fmt.Errorf("open snapshot ab12: read index 7f3e: %w", kind)
			w.service.check = func(context.Context, *health.HealthCheckRequest) error { return sent }
			w.service.watch = func(grpc.ServerStreamingServer[health.HealthCheckResponse]) error { return sent }
			_, err := client.Check(t.Context(), &health.HealthCheckRequest{})
			if errs.KindOf(err) != kind || err.Error() != sent.Error() {
				t.Errorf("unary: %v came as %v of kind %v", sent, err, errs.KindOf(err))
			}
			st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
			if err == nil {
				_, err = st.Recv()
			}
			if errs.KindOf(err) != kind || err.Error() != sent.Error() {
				t.Errorf("stream: %v came as %v of kind %v", sent, err, errs.KindOf(err))
			}
		}
	})
}

func TestAFailureWithoutAKindKeepsItsMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { return errors.New("disk fell off") }
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err == nil || err.Error() != "disk fell off" || errs.KindOf(err) != nil {
			t.Errorf("%v of kind %v", err, errs.KindOf(err))
		}
		w.service.check = func(context.Context, *health.HealthCheckRequest) error {
			return fmt.Errorf("\xff%s: %w", strings.Repeat("ü", 100000), errs.NotFound)
		}
		_, err := client.Check(t.Context(), &health.HealthCheckRequest{})
		if errs.KindOf(err) != errs.NotFound || len(err.Error()) > 10000 || !strings.HasSuffix(err.Error(), "…") {
			t.Errorf("a long message with a bad byte: %d bytes of kind %v", len(err.Error()), errs.KindOf(err))
		}
	})
}

func TestHandlersSeeWhoCalls(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		var unary, stream pki.Peer
		w.service.check = func(ctx context.Context, _ *health.HealthCheckRequest) error {
			unary, _ = rpc.PeerFrom(ctx)
			return nil
		}
		w.service.watch = func(st grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
			stream, _ = rpc.PeerFrom(st.Context())
			return nil
		}
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Recv()
		for _, p := range []pki.Peer{unary, stream} {
			if p.Kind != pki.Agent || p.Agent != [16]byte{7} {
				t.Errorf("peer %+v", p)
			}
		}
	})
}

func TestWithoutACertificateOnlyPublicMethodsMayBeCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.options.Public = []string{health.Health_Check_FullMethodName}
		w.service.check = func(ctx context.Context, _ *health.HealthCheckRequest) error {
			if p, ok := rpc.PeerFrom(ctx); ok {
				t.Errorf("an unknown caller is %v", p)
			}
			return nil
		}
		w.service.watch = func(grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
			t.Error("the handler was called")
			return nil
		}
		w.serve()
		conn := w.dial(nil)
		client := health.NewHealthClient(conn)
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err != nil {
			t.Errorf("public: %v", err)
		}
		st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
		if err == nil {
			_, err = st.Recv()
		}
		if !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("not public: %v", err)
		}
		_ = conn.Close()
		w.end()
	})
}

func TestAuthorizationIsAskedBeforeEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var asked []string
		w.options.Authorize = func(ctx context.Context, method string) error {
			p, _ := rpc.PeerFrom(ctx)
			asked = append(asked, p.String()+method)
			return fmt.Errorf("%s: %w", p, errs.Denied)
		}
		var calls []rpc.Call
		w.options.Done = func(_ context.Context, c rpc.Call) { calls = append(calls, c) }
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { t.Error("the handler was called"); return nil }
		w.serve()
		conn := w.dial(pki.NewHolder(w.identity(time.Hour)).Certificate)
		_, err := health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{})
		if !errors.Is(err, errs.Denied) || len(asked) != 1 || !strings.HasSuffix(asked[0], health.Health_Check_FullMethodName) {
			t.Errorf("%v, asked %q", err, asked)
		}
		if len(calls) != 1 || !errors.Is(calls[0].Err, errs.Denied) || calls[0].Method != health.Health_Check_FullMethodName || !calls[0].Known {
			t.Errorf("calls %+v", calls)
		}
		_ = conn.Close()
		w.end()
	})
}

func TestAPanicEndsOneCallAndNotTheServer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { panic("impossible") }
		w.service.watch = func(grpc.ServerStreamingServer[health.HealthCheckResponse]) error { panic("impossible") }
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err == nil || strings.Contains(err.Error(), "impossible") {
			t.Errorf("unary: %v", err)
		}
		st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
		if err == nil {
			_, err = st.Recv()
		}
		if err == nil {
			t.Error("stream: no error")
		}
		if n := w.logs.FilterMessage("handler panicked").Len(); n != 2 {
			t.Errorf("%d panics logged, want 2", n)
		}
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { return nil }
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err != nil {
			t.Errorf("after the panics: %v", err)
		}
	})
}

func TestAUnaryCallWithoutADeadlineGetsOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		w.service.check = func(ctx context.Context, _ *health.HealthCheckRequest) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		_, err := client.Check(context.Background(), &health.HealthCheckRequest{})
		if errs.KindOf(err) != errs.Timeout || time.Since(began) != rpc.UnaryTimeout {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { return nil }
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: strings.Repeat("x", rpc.MaxMessage-100)}); err != nil {
			t.Errorf("just below the bound: %v", err)
		}
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: strings.Repeat("x", rpc.MaxMessage+1)}); !errors.Is(err, errs.Exhausted) {
			t.Errorf("above the bound: %v", err)
		}
	})
}

func TestARenewedCertificateIsShownWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var serials []string
		w.service.check = func(ctx context.Context, _ *health.HealthCheckRequest) error {
			p, _ := rpc.PeerFrom(ctx)
			serials = append(serials, p.Serial)
			return nil
		}
		w.serve()
		holder := pki.NewHolder(w.identity(time.Hour))
		for range 2 {
			conn := w.dial(holder.Certificate)
			if _, err := health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			holder.Replace(w.identity(time.Hour))
		}
		if serials[0] == serials[1] {
			t.Error("the second connection shows the old certificate")
		}
		w.end()
	})
}

func TestAConnectionDoesNotOutliveItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { return nil }
		w.serve()
		conn := w.dial(pki.NewHolder(w.identity(time.Hour)).Certificate)
		client := health.NewHealthClient(conn)
		for range 6 { // often enough that the connection is never idle
			if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Minute + time.Second)
		}
		if _, err := client.Check(t.Context(), &health.HealthCheckRequest{}); !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("after its certificate expired: %v", err)
		}
		_ = conn.Close()
		w.end()
	})
}

func TestAControllerThatCannotProveItselfIsToldFromOneThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		other, err := pki.NewRoot([16]byte{2}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for name, root := range map[string]bool{"another root": true, "nobody": false} {
			config, err := pki.ClientTLS(other.Certificate(), nil)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := rpc.Dial("controller:7443", config, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				if !root {
					return nil, errors.New("connection refused")
				}
				return w.lis.DialContext(ctx)
			}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{})
			want := errs.Unavailable
			if root {
				want = errs.Unauthenticated
			}
			if errs.KindOf(err) != want {
				t.Errorf("%s: %v of kind %v", name, err, errs.KindOf(err))
			}
			_ = conn.Close()
		}
		w.end()
	})
}

func TestStreamsEndSoonAfterTheNetworkIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		var mu sync.Mutex
		var serverEnded time.Time
		w.service.watch = func(st grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
			if err := st.Send(&health.HealthCheckResponse{}); err != nil {
				return err
			}
			<-st.Context().Done()
			mu.Lock()
			defer mu.Unlock()
			serverEnded = time.Now()
			return st.Context().Err()
		}
		st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour) // a quiet stream lives on
		w.hole.Store(true)
		began := time.Now()
		if _, err := st.Recv(); !errors.Is(err, errs.Unavailable) || time.Since(began) > time.Minute {
			t.Errorf("client: %v after %s", err, time.Since(began))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if serverEnded.IsZero() || serverEnded.Sub(began) > time.Minute {
			t.Errorf("the server's handler ended %s after the cut", serverEnded.Sub(began))
		}
		w.hole.Store(false)
	})
}

func TestStoppingLetsCallsFinishAndCutsStreamsAfterTheGrace(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, client health.HealthClient) {
		w.service.check = func(context.Context, *health.HealthCheckRequest) error { time.Sleep(5 * time.Second); return nil }
		w.service.watch = func(st grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
			<-st.Context().Done()
			return st.Context().Err()
		}
		st, err := client.Watch(t.Context(), &health.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := client.Check(context.Background(), &health.HealthCheckRequest{})
			result <- err
		}()
		time.Sleep(time.Second)
		began := time.Now()
		w.stop()
		if err := <-result; err != nil {
			t.Errorf("a call in flight: %v", err)
		}
		if _, err := st.Recv(); err == nil || time.Since(began) > 11*time.Second {
			t.Errorf("a stream: %v after %s", err, time.Since(began))
		}
	})
}

func TestAnAddressThatCannotBeReachedIsToldInPlainWords(t *testing.T) {
	w := newWorld(t)
	config, err := pki.ClientTLS(w.issuer.Root(), nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial("127.0.0.1:1", config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{})
	if errs.KindOf(err) != errs.Unavailable || !strings.HasPrefix(err.Error(), "dial tcp 127.0.0.1:1: ") {
		t.Errorf("%v of kind %v", err, errs.KindOf(err))
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
