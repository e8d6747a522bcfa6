package api_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	repocheck "github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// backedUp puts a snapshot into the world's repository and gives its record.
func (w *world) backedUp(instance catalog.Instance) catalog.Snapshot {
	w.t.Helper()
	id, err := w.repository.CreateDomain(w.t.Context())
	succeed(w.t, err)
	d, err := w.repository.Domain(w.t.Context(), id)
	succeed(w.t, err)
	_, err = w.repository.ClaimEpoch(w.t.Context())
	succeed(w.t, err)
	b := repotest.NewBackups(w.t, w.repository, d)
	b.Instance = instance.ID
	job := b.Backup(repotest.Table{Database: "shop", Name: "orders", Rows: 100, Seed: "1"})
	_, raw, err := w.repository.ReadSnapshotObject(w.t.Context(), instance.ID, job)
	succeed(w.t, err)
	s := catalog.Snapshot{ID: job, Instance: instance.ID, InstanceName: instance.FullName(), Domain: id, Committed: time.Now(), Complete: true,
		ObjectHash: sha256.Sum256(raw), ObjectBytes: int64(len(raw)), Chunks: 27, PlainBytes: 1 << 20}
	succeed(w.t, w.catalog.Update(w.t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		instance.Domain = id
		return errors.Join(tx.PutInstance(instance), tx.PutSnapshot(s))
	}))
	return s
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACheckIsStartedFollowedAndShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		instance := catalog.Instance{ID: repo.NewID(), Agent: a.id, AgentName: "db1", Name: "main"}
		snapshot := w.backedUp(instance)
		oper := tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("ann", catalog.RoleOperator).cert))
		if _, err := oper.GetCheck(t.Context(), &tuskvaultv1.GetCheckRequest{}); !errors.Is(err, errs.NotFound) {
			t.Errorf("before any: %v", err)
		}
		var pack string
		succeed(t, w.repository.Store().List(t.Context(), repo.PacksPrefix, "", func(i blob.Info) error { pack = i.Key; return nil }))
		succeed(t, w.repository.Store().Delete(t.Context(), pack))
		req := &tuskvaultv1.CheckRepositoryRequest{RequestId: repo.NewID().String(), ReadData: true, SampleMillionths: repocheck.Whole}
		started, err := oper.CheckRepository(t.Context(), req)
		if err != nil || started.GetCheck().GetState() != tuskvaultv1.CheckState_CHECK_STATE_RUNNING || started.GetCheck().GetCreatedBy() != "operator/ann" {
			t.Fatalf("%v, %v", started, err)
		}
		stream, err := oper.WatchCheck(t.Context(), &tuskvaultv1.WatchCheckRequest{})
		succeed(t, err)
		var last *tuskvaultv1.Check
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			succeed(t, err)
			last = m.GetCheck()
		}
		if last.GetState() != tuskvaultv1.CheckState_CHECK_STATE_DAMAGED || last.GetId() != req.GetRequestId() || last.GetSnapshotsHurt() != 1 {
			t.Fatalf("%v", last)
		}
		shown, err := oper.GetCheck(t.Context(), &tuskvaultv1.GetCheckRequest{})
		succeed(t, err)
		if len(shown.GetFindings()) != 1 || len(shown.GetSnapshots()) != 1 || shown.GetSnapshots()[0].GetInstance() != "db1/main" {
			t.Fatalf("%v", shown)
		}
		f := shown.GetFindings()[0]
		if f.GetObject() != pack || f.GetProblem() != "missing" || f.GetHarmless() || len(f.GetEffects()) == 0 ||
			f.GetEffects()[0].GetSnapshotId() != snapshot.ID.String() || f.GetEffects()[0].GetDatabase() != "shop" || f.GetEffects()[0].GetInstance() != "db1/main" {
			t.Errorf("%v", f)
		}
		for _, action := range []string{"repository.check", "repository.check-end", "repository.read-check"} {
			if n := len(w.audited(action)); n != 1 {
				t.Errorf("%d records of %s", n, action)
			}
		}
		status, err := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert)).GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		succeed(t, err)
		h := status.GetRepositoryHealth()
		if h.GetCheckState() != "damaged" || h.GetDamagedPacks() != 1 || h.GetSnapshotsHurt() != 1 || h.GetCheckTime() == nil {
			t.Errorf("%v", h)
		}
		if n := status.GetNotices()[0]; !strings.Contains(n.GetMessage(), "1 pack is known to be damaged") || !strings.Contains(n.GetHint(), "repo check") {
			t.Errorf("%v", status.GetNotices())
		}
	})
}

func TestACheckIsRefusedWhatMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		oper := tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("ann", catalog.RoleOperator).cert))
		for _, r := range []*tuskvaultv1.CheckRepositoryRequest{
			{},
			{RequestId: repo.NewID().String(), SampleMillionths: -1},
			{RequestId: repo.NewID().String(), SampleMillionths: repocheck.Whole + 1},
			{RequestId: repo.NewID().String(), ReadData: true},
			{RequestId: repo.NewID().String(), BytesPerSecond: -5},
		} {
			_, err := oper.CheckRepository(t.Context(), r)
			wantKind(t, err, errs.Invalid)
		}
		_, err := oper.CancelCheck(t.Context(), &tuskvaultv1.CancelCheckRequest{})
		wantKind(t, err, errs.Conflict, "none runs")
	})
}

func TestRepositoryStatsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		w.backedUp(catalog.Instance{ID: repo.NewID(), Agent: a.id, AgentName: "db1", Name: "main"})
		viewer := tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		r, err := viewer.GetRepositoryStats(t.Context(), &tuskvaultv1.GetRepositoryStatsRequest{})
		succeed(t, err)
		var bytes, packs int64
		for _, o := range r.GetObjects() {
			bytes += o.GetBytes()
			if o.GetKind() == "packs" {
				packs = o.GetObjects()
			}
		}
		if bytes != r.GetStoredBytes() || packs != r.GetPacks() || packs == 0 || r.GetSnapshots() != 1 || r.GetFrameBytes() <= 0 || r.GetOverhead() <= 0 || len(r.GetDomains()) != 1 {
			t.Fatalf("%v", r)
		}
		if r.GetStore() != nil {
			t.Errorf("nobody has noted what the store can do: %v", r.GetStore())
		}
		succeed(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			return tx.PutStoreFeatures(catalog.StoreFeatures{Location: "s3://b", AtomicCreate: true, Versions: true, Lock: "governance", Warnings: []string{"one key writes and deletes"}})
		}))
		r, err = viewer.GetRepositoryStats(t.Context(), &tuskvaultv1.GetRepositoryStatsRequest{})
		succeed(t, err)
		if f := r.GetStore(); !f.GetAtomicCreate() || !f.GetVersions() || f.GetLock() != "governance" || len(f.GetWarnings()) != 1 {
			t.Errorf("%v", f)
		}
		status, err := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v2", catalog.RoleViewer).cert)).GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		succeed(t, err)
		if !strings.Contains(fmt.Sprint(status.GetNotices()), "one key writes and deletes") {
			t.Errorf("notices %v", status.GetNotices())
		}
		d := r.GetDomains()[0]
		if d.GetChunks() == 0 || d.GetDedupFactor() != float64(27)/float64(d.GetChunks()) || d.GetReduction() <= 1 || len(d.GetInstances()) != 1 || d.GetInstances()[0] != "db1/main" {
			t.Errorf("%v", d)
		}
	})
}
