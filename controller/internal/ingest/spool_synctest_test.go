package ingest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// hanging is a store that does not answer puts of packs until it is told to.
type hanging struct {
	blob.Store
	answer chan struct{}
}

func (h *hanging) Create(ctx context.Context, key string, body blob.Body) error {
	if strings.HasPrefix(key, "packs/") {
		select {
		case <-h.answer:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return h.Store.Create(ctx, key, body)
}

// An agent that hangs up and comes back while the store does not answer leaves
// packs behind each time.
func TestAHangingStoreDoesNotFillTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &hanging{Store: w.store.Store, answer: make(chan struct{})}
		w.store.Store = store
		w.start()
		a := w.agent()
		chunks := a.rows(1, ingest.SpoolPacks+40, 100)
		job := repo.NewID()
		began := time.Now()
		for i, c := range chunks {
			u, err := a.begin(a.lease(job, uint64(i+1)))
			must(t, err)
			must(t, u.put(c))
			must(t, u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Flush{Flush: &tuskvaultv1.UploadFlush{}}}))
			synctest.Wait()
			u.cancel()
			synctest.Wait()
		}
		if time.Since(began) > time.Second {
			t.Fatalf("%s went by: packs may have been given up", time.Since(began))
		}
		files, err := os.ReadDir(filepath.Join(w.dir, "spool"))
		must(t, err)
		if len(files) != ingest.SpoolPacks {
			t.Errorf("%d files are in the spool folder, want %d and no more", len(files), ingest.SpoolPacks)
		}
		close(store.answer)
		synctest.Wait()
		_, _, err = a.store(a.lease(job, 1_000_000), chunks...)
		must(t, err)
		if files, _ := os.ReadDir(filepath.Join(w.dir, "spool")); len(files) != 0 {
			t.Errorf("%d files stay in the spool folder", len(files))
		}
		w.stop()
	})
}
