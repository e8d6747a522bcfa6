package api_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// report sends an inventory and waits until it has been dealt with.
func (s *session) report(m *tuskvaultv1.Inventory) {
	s.t.Helper()
	s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Inventory{Inventory: m}})
	s.heartbeat()
	next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
	synctest.Wait()
}

func TestAnAgentCannotMakeInstancesWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		for round := range 6 {
			m := &tuskvaultv1.Inventory{}
			for n := range 50 {
				m.Instances = append(m.Instances, instance(fmt.Sprintf("i%d-%d", round, n), 7))
			}
			s.report(m)
		}
		if n := len(w.instances()); n > 128 {
			t.Errorf("%d instances, each with a domain of its own in the store", n)
		}
		if got := w.audited("inventory.shorten"); len(got) == 0 || len(got) > 2 || !strings.Contains(got[0].Detail, "too many") {
			t.Errorf("audit %+v", got)
		}
		// One that is known is kept up to date.
		s.report(&tuskvaultv1.Inventory{Instances: []*tuskvaultv1.InstanceInventory{instance("main", 8)}})
		if i := w.instanceOf("db1", "main"); i.SystemIdentifier != 8 {
			t.Errorf("instance %+v", i)
		}
	})
}

func TestAFloodOfInventoriesIsWrittenSlowlyAndTheNewestInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		before := w.counted.updates.Load()
		i := instance("main", 7)
		for n := range 5000 {
			i.Databases = append(i.Databases, &tuskvaultv1.DatabaseInventory{Name: fmt.Sprintf("%s%d", strings.Repeat("d", 50), n)})
		}
		for n := range 60 {
			i.Timeline = uint32(n + 1)
			s.report(&tuskvaultv1.Inventory{Instances: []*tuskvaultv1.InstanceInventory{i}})
		}
		if n := w.counted.updates.Load() - before; n > 30 {
			t.Errorf("%d transactions of a megabyte at once", n)
		}
		for range 180 { // half an hour
			time.Sleep(10 * time.Second)
			s.heartbeat()
			next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		}
		if got := w.instanceOf("db1", "main").Inventory.Timeline; got != 60 {
			t.Errorf("inventory %d is kept, want the newest", got)
		}
	})
}

func TestAFloodOfSessionsIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, other := w.agent("db1"), w.agent("db2")
		refused := 0
		for range 60 {
			s := w.start(a, hello())
			select {
			case m := <-s.in:
				if m.GetWelcome() == nil {
					t.Fatalf("first message %v", m)
				}
			case err := <-s.ended:
				refused++
				wantKind(t, err, errs.Busy, "sessions")
			}
		}
		if refused < 20 {
			t.Errorf("%d of 60 sessions were refused", refused)
		}
		w.session(other, hello())
		time.Sleep(time.Minute)
		w.session(a, hello())
	})
}
