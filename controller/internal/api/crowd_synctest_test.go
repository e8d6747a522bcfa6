package api_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// bounds are those of a test's controller. They are small since the race detector
// itself fails now and then where some hundreds of goroutines run at once: its
// slots are 255.
var bounds = api.Bounds{Handshakes: 24, Strangers: 8, PerAgent: 4, PerOperator: 256}

// silent opens a connection that never says anything, and counts it out when it
// is closed from the other side.
func (w *world) silent(closed *atomic.Int64) {
	w.t.Helper()
	conn, err := w.listener.DialContext(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		closed.Add(1)
	}()
}

func TestConnectionsThatSayNothingAreBoundedAndKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		var closed atomic.Int64
		for range 60 {
			w.silent(&closed)
		}
		synctest.Wait()
		if open := 60 - int(closed.Load()); open > bounds.Handshakes {
			t.Errorf("%d connections that have shown nothing are open at once", open)
		}
		w.session(a, hello())
	})
}

func TestStrangersAreBoundedInNumberTimeAndBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		check := func(c *grpc.ClientConn) error {
			_, err := healthv1.NewHealthClient(c).Check(t.Context(), &healthv1.HealthCheckRequest{}, grpc.WaitForReady(false))
			return err
		}
		first := w.dial(nil)
		if err := check(first); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := check(w.dial(nil)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := w.conns.Strangers(); n > bounds.Strangers {
			t.Errorf("%d connections of strangers are open at once", n)
		}
		time.Sleep(3 * time.Minute)
		if n := w.conns.Strangers(); n > 0 {
			// Clients connect again only when they call.
			t.Errorf("%d connections of strangers are open after three minutes", n)
		}
		large := w.dial(nil)
		for range 3 {
			_, err := tuskvaultv1.NewEnrollmentServiceClient(large).Enroll(t.Context(), &tuskvaultv1.EnrollRequest{Csr: make([]byte, 3<<20)})
			wantKind(t, err, errs.Unavailable)
		}
		w.session(a, hello())
	})
}

func TestAnAgentCannotOpenConnectionsWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, other := w.agent("db1"), w.agent("db2")
		honest := w.session(other, hello())
		ended := make(chan error, 100)
		for range 20 {
			watch, err := healthv1.NewHealthClient(w.dial(a.cert)).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := watch.Recv(); err != nil {
						ended <- err
						return
					}
				}
			}()
		}
		synctest.Wait()
		if n := len(ended); n != 20-bounds.PerAgent {
			t.Errorf("%d of 20 connections of one agent were closed", n)
		}
		honest.heartbeat()
		next(honest, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		w.session(a, hello()) // the newest is the one that counts
	})
}
