package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestSignsOfLifeDoNotFillTheLogInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		ship := func() (n int) {
			for {
				shipment, ok, err := w.catalog.NextShipment(t.Context(), false)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return n
				}
				if err := w.catalog.Shipped(t.Context(), shipment, catalog.Witness{Number: 1}); err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
		ship()
		for range 60 {
			time.Sleep(10 * time.Second)
			s.heartbeat()
			next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		}
		if ship() != 0 {
			t.Error("ten quiet minutes made records for the store")
		}
	})
}

func TestTheClocksOfConnectedAgentsAreKnownBetweenHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		if got := w.hub.Clocks(); len(got) != 0 {
			t.Errorf("before any heartbeat: %v", got)
		}
		const off = -400 * 24 * time.Hour
		s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Heartbeat{Heartbeat: &tuskvaultv1.Heartbeat{Time: timestamppb.New(time.Now().Add(off))}}})
		next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		for range 2 {
			if got := w.hub.Clocks(); len(got) != 1 || got[0].Sub(time.Now().Add(off)).Abs() > time.Second {
				t.Errorf("its clock says %v, want %v", got, time.Now().Add(off))
			}
			time.Sleep(7 * time.Second)
		}
		_ = s.stream.CloseSend()
		synctest.Wait()
		if got := w.hub.Clocks(); len(got) != 0 {
			t.Errorf("of an agent that is away: %v", got)
		}
	})
}
