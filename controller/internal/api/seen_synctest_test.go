package api_test

import (
	"testing"
	"testing/synctest"
	"time"

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
