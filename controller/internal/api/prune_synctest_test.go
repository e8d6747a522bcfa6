package api_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// pruned starts a prune and follows it to its end.
func pruned(t *testing.T, c tuskvaultv1.RepositoryServiceClient, r *tuskvaultv1.PruneRepositoryRequest) *tuskvaultv1.GetPruneResponse {
	t.Helper()
	r.RequestId = repo.NewID().String()
	started, err := c.PruneRepository(t.Context(), r)
	if err != nil || started.GetPrune().GetId() != r.GetRequestId() {
		t.Fatalf("%v, %v", started, err)
	}
	stream, err := c.WatchPrune(t.Context(), &tuskvaultv1.WatchPruneRequest{})
	succeed(t, err)
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	out, err := c.GetPrune(t.Context(), &tuskvaultv1.GetPruneRequest{})
	succeed(t, err)
	return out
}

func TestAPruneIsStartedFollowedAndShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		instance := catalog.Instance{ID: repo.NewID(), Agent: a.id, AgentName: "db1", Name: "main"}
		snapshot := w.backedUp(instance)
		admin := tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("ann", catalog.RoleAdmin).cert))
		if _, err := admin.GetPrune(t.Context(), &tuskvaultv1.GetPruneRequest{}); !errors.Is(err, errs.NotFound) {
			t.Errorf("before any: %v", err)
		}
		if _, err := admin.CancelPrune(t.Context(), &tuskvaultv1.CancelPruneRequest{}); !errors.Is(err, errs.Conflict) {
			t.Errorf("none runs: %v", err)
		}
		if got := pruned(t, admin, &tuskvaultv1.PruneRepositoryRequest{}); len(got.GetOutcomes()) != 0 || got.GetPrune().GetState() != tuskvaultv1.PruneState_PRUNE_STATE_DONE {
			t.Errorf("nothing was forgotten: %v", got)
		}
		// All is needed.
		got := pruned(t, admin, &tuskvaultv1.PruneRepositoryRequest{Domains: []string{"db1/main"}})
		if len(got.GetOutcomes()) != 1 || got.GetOutcomes()[0].GetPacks() == 0 || got.GetOutcomes()[0].GetDeadPacks() != 0 || got.GetOutcomes()[0].GetInstances()[0] != "db1/main" {
			t.Fatalf("%v", got)
		}
		packs := got.GetOutcomes()[0].GetPacks()
		// Nothing is.
		succeed(t, w.repository.Store().Delete(t.Context(), repo.SnapshotObject(instance.ID, snapshot.ID)))
		succeed(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			return errors.Join(tx.DeleteSnapshot(snapshot.ID), tx.PutPruneNeed(snapshot.Domain, catalog.PruneNeed{Since: time.Now(), Snapshots: 1}))
		}))
		dry := pruned(t, admin, &tuskvaultv1.PruneRepositoryRequest{DryRun: true})
		if o := dry.GetOutcomes()[0]; o.GetDeadPacks() != packs || !dry.GetPrune().GetDryRun() || o.GetWaitingPacks() != 0 {
			t.Errorf("%v", dry)
		}
		real := pruned(t, admin, &tuskvaultv1.PruneRepositoryRequest{Domains: []string{snapshot.Domain.String()[:8]}})
		if o := real.GetOutcomes()[0]; o.GetDeadPacks() != packs || o.GetWaitingPacks() != packs || o.GetWaitsFor() == "" || real.GetPrune().GetWaitingBytes() == 0 {
			t.Errorf("%v", real)
		}
		for _, action := range []string{"repository.prune", "repository.prune-end"} {
			if n := len(w.audited(action)); n != 4 {
				t.Errorf("%d records of %s", n, action)
			}
		}
		if n := len(w.audited("prune.condemn")); n != 1 {
			t.Errorf("%d records of prune.condemn", n)
		}
		status := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		s, err := status.GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		succeed(t, err)
		if h := s.GetRepositoryHealth(); h.GetCondemnedBytes() == 0 || h.GetCondemnedTime() == nil || h.GetPruneProblem() != "" {
			t.Errorf("%v", h)
		}
		// What it waited for is over, and it cannot go on: status says so.
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		s, err = status.GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		succeed(t, err)
		if h := s.GetRepositoryHealth(); !strings.Contains(h.GetPruneProblem(), "not supported") {
			t.Errorf("%v", h)
		}
		found := false
		for _, n := range s.GetNotices() {
			found = found || strings.Contains(n.GetMessage(), "a prune cannot go on")
		}
		if !found {
			t.Errorf("%v", s.GetNotices())
		}
	})
}

func TestAPruneIsRefusedWhatMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		for _, d := range []seal.DomainID{{0xab, 1}, {0xab, 2}} {
			i := catalog.Instance{ID: repo.NewID(), Agent: a.id, AgentName: "db1", Name: d.String()[:4], Domain: d}
			succeed(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { return tx.PutInstance(i) }))
		}
		admin := tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("ann", catalog.RoleAdmin).cert))
		id := repo.NewID().String()
		for want, requests := range map[error][]*tuskvaultv1.PruneRepositoryRequest{
			errs.Invalid: {{}, {RequestId: "x"}, {RequestId: id, BudgetBytes: -1}, {RequestId: id, Domains: make([]string, catalog.MaxPruneOutcomes+1)},
				{RequestId: id, Domains: []string{"ab"}}},
			errs.NotFound: {{RequestId: id, Domains: []string{"ff"}}, {RequestId: id, Domains: []string{""}}},
		} {
			for _, r := range requests {
				if _, err := admin.PruneRepository(t.Context(), r); !errors.Is(err, want) {
					t.Errorf("%d domains, %v: %v, want %v", len(r.GetDomains()), r.GetBudgetBytes(), err, want)
				}
			}
		}
	})
}
