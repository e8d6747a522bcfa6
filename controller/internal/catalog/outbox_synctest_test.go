package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func putAgent(name string) func(*catalog.Tx) error {
	return func(tx *catalog.Tx) error { return tx.PutAgent(catalog.Agent{ID: repo.NewID(), Name: name}) }
}

// batches opens a shipment.
func batches(t *testing.T, s catalog.Shipment) []*catalogpb.Batch {
	t.Helper()
	r := &catalogpb.LogRecord{}
	if err := proto.Unmarshal(s.Payload, r); err != nil {
		t.Fatal(err)
	}
	if r.GetSchema() != catalog.SchemaVersion {
		t.Errorf("schema %d", r.GetSchema())
	}
	return r.GetBatches()
}

func TestChangesAreShippedInOrderWithWhatTheyChanged(t *testing.T) {
	c := create(t)
	for i := range 3 {
		update(t, c, putAgent(fmt.Sprintf("db%d", i)))
	}
	if err := c.Update(t.Context(), catalog.Local, putAgent("local")); err != nil {
		t.Fatal(err)
	}
	s, ok, err := c.NextShipment(t.Context(), false)
	if err != nil || !ok || s.Synchronous {
		t.Fatalf("shipment %+v, %v, %v", s, ok, err)
	}
	for i, b := range batches(t, s) {
		if b.GetSequence() != uint64(i+1) || len(b.GetChanges()) != 1 || b.GetChanges()[0].GetBucket() != "agents" {
			t.Errorf("batch %d: %v", i, b)
		}
		a := &catalogpb.Agent{}
		if err := proto.Unmarshal(b.GetChanges()[0].GetValue(), a); err != nil || a.GetName() != fmt.Sprintf("db%d", i) {
			t.Errorf("batch %d: %v, %v", i, a, err)
		}
	}
	if age, _, err := c.Waiting(t.Context()); age <= 0 || err != nil {
		t.Errorf("waiting %s, %v", age, err)
	}
	if err := c.Shipped(t.Context(), s, catalog.Witness{Epoch: 2, Number: 9}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.NextShipment(t.Context(), false); ok || err != nil {
		t.Errorf("shipped twice: %v, %v", ok, err)
	}
	if age, _, err := c.Waiting(t.Context()); age != 0 || err != nil || c.Head().Number != 9 {
		t.Errorf("waiting %s, head %+v, %v", age, c.Head(), err)
	}
}

// A shipment that may be in the store already must be put again with the same
// bytes after a crash, whatever was changed since.
func TestAShipmentIsTheSameAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	c, err := catalog.Create(t.Context(), path, catalog.Meta{Epoch: 1}, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	update(t, c, putAgent("db1"))
	first, _, err := c.NextShipment(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	update(t, c, putAgent("db2"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = catalog.Open(t.Context(), path, catalog.Options{Detached: true}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	update(t, c, putAgent("db3"))
	again, ok, err := c.NextShipment(t.Context(), false)
	if err != nil || !ok || !bytes.Equal(again.Payload, first.Payload) || again.Through != 1 {
		t.Fatalf("shipment through %d, %v, %v", again.Through, ok, err)
	}
	if err := c.Shipped(t.Context(), again, catalog.Witness{Number: 1}); err != nil {
		t.Fatal(err)
	}
	rest, _, err := c.NextShipment(t.Context(), false)
	if err != nil || len(batches(t, rest)) != 2 || rest.Through != 3 {
		t.Errorf("the rest: through %d, %v", rest.Through, err)
	}
}

func TestALargeOutboxIsShippedInBoundedPieces(t *testing.T) {
	c := create(t)
	big := string(bytes.Repeat([]byte("x"), 300<<10))
	for i := range 10 {
		update(t, c, func(tx *catalog.Tx) error {
			return tx.PutInventory(repo.ID{byte(i + 1)}, catalog.Inventory{Hostname: big})
		})
	}
	pieces := 0
	for {
		s, ok, err := c.NextShipment(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if pieces++; len(s.Payload) > 1<<20 {
			t.Errorf("piece of %d bytes", len(s.Payload))
		}
		if err := c.Shipped(t.Context(), s, catalog.Witness{}); err != nil {
			t.Fatal(err)
		}
	}
	if pieces != 4 {
		t.Errorf("%d pieces, want 4", pieces)
	}
	wants(t, c.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
		return tx.PutInventory(repo.ID{1}, catalog.Inventory{Hostname: string(make([]byte, 17<<20))})
	}), errs.Exhausted, "catalog change")
}

func attached(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Epoch: 1}, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestASynchronousChangeWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := attached(t)
		done := make(chan error, 1)
		go func() { done <- c.Update(t.Context(), catalog.Sync, putAgent("db1")) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("returned before it was shipped: %v", err)
		default:
		}
		if _, synchronous, err := c.Waiting(t.Context()); !synchronous || err != nil {
			t.Errorf("nobody waits: %v", err)
		}
		s, ok, err := c.NextShipment(t.Context(), false)
		if err != nil || !ok || !s.Synchronous {
			t.Fatalf("shipment %+v, %v, %v", s, ok, err)
		}
		if err := c.Shipped(t.Context(), s, catalog.Witness{Number: 1}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Update(t.Context(), catalog.Async, putAgent("db2")); err != nil {
			t.Error(err)
		}
	})
}

func TestASynchronousChangeIsMadeThoughTheStoreDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := attached(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wants(t, c.Update(ctx, catalog.Sync, putAgent("db1")), errs.Unavailable, "recorded here")
		view(t, c, func(tx *catalog.Tx) error { _, err := tx.AgentByName("db1"); return err })
	})
}

func TestNothingIsWrittenAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := attached(t)
		done := make(chan error, 1)
		go func() { done <- c.Update(t.Context(), catalog.Sync, putAgent("db1")) }()
		synctest.Wait()
		taken := fmt.Errorf("another controller has taken over: %w", errs.Conflict)
		c.StopWriting(taken)
		if err := <-done; !errors.Is(err, taken) {
			t.Errorf("who waits: %v", err)
		}
		if err := c.Update(t.Context(), catalog.Local, putAgent("db2")); !errors.Is(err, taken) {
			t.Errorf("who comes: %v", err)
		}
		view(t, c, func(tx *catalog.Tx) error { _, err := tx.AgentByName("db1"); return err })
	})
}
