package api_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestSnapshotsAreForgottenHeldAndKeptByThoseWhoMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		one := w.instanceOf("db1", "main")
		// Their records are of a version that kept no databases: the manifests say them.
		old, last := w.putSnapshot(one, time.Now().Add(-time.Hour), true, "a"), w.putSnapshot(one, time.Now(), true, "a")
		oper, admin := tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert)), tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("a", catalog.RoleAdmin).cert))
		ctx := t.Context()
		follower, _, err := w.events.Follow(event.Newest)
		if err != nil {
			t.Fatal(err)
		}
		defer follower.Close()

		_, err = oper.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{last.ID.String()}})
		wantKind(t, err, errs.Denied, "needs admin")
		_, err = admin.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{"latest:db1/main"}})
		wantKind(t, err, errs.Invalid, "by its id")
		_, err = admin.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{last.ID.String(), old.ID.String()}})
		wantKind(t, err, errs.Conflict, old.ID.Short(), "last complete snapshot of database shop")
		for range 2 { // twice is once
			r, err := admin.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{last.ID.String()[:10]}, Reason: "too large"})
			if err != nil {
				t.Fatal(err)
			}
			f := r.GetSnapshots()[0].GetForgotten()
			if f.GetBy() != "operator/a" || f.GetReason() != "too large" || f.GetPurgeAfterTime().AsTime().Sub(f.GetTime().AsTime()) != 72*time.Hour {
				t.Errorf("forgotten %v", f)
			}
			time.Sleep(time.Minute)
		}
		// It is still there for whoever names it, and for nobody else.
		if r, err := oper.GetSnapshot(ctx, &tuskvaultv1.GetSnapshotRequest{Snapshot: "latest"}); err != nil || r.GetSnapshot().GetId() != old.ID.String() {
			t.Errorf("latest: %v, %v", r.GetSnapshot(), err)
		}
		jobs := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("r", catalog.RoleOperator).cert))
		restore := &tuskvaultv1.StartRestoreRequest{RequestId: repo.NewID().String(), Snapshot: last.ID.String(), TargetInstance: "db1/main"}
		if r, err := jobs.StartRestore(ctx, restore); err != nil || len(r.GetWarnings()) != 1 || !strings.Contains(r.GetWarnings()[0], "forgotten by operator/a") {
			t.Errorf("restore: %v, %v", r.GetWarnings(), err)
		}
		until := timestamppb.New(time.Now().Add(1000 * time.Hour))
		hold := &tuskvaultv1.HoldSnapshotRequest{Snapshot: last.ID.String(), UntilTime: until, Reason: "court case"}
		if r, err := oper.HoldSnapshot(ctx, hold); err != nil || !r.GetSnapshot().GetHold().GetUntilTime().AsTime().Equal(until.AsTime()) || r.GetSnapshot().GetForgotten() == nil {
			t.Errorf("hold: %v, %v", r, err)
		}
		if r, err := oper.UnforgetSnapshots(ctx, &tuskvaultv1.UnforgetSnapshotsRequest{Snapshots: []string{last.ID.String()}}); err != nil || r.GetSnapshots()[0].GetForgotten() != nil {
			t.Errorf("unforget: %v, %v", r, err)
		}
		_, err = admin.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{last.ID.String()}, AllowLast: "db1/main"})
		wantKind(t, err, errs.Conflict, "is held until", "operator/o", "court case")
		_, err = oper.ReleaseSnapshot(ctx, &tuskvaultv1.ReleaseSnapshotRequest{Snapshot: last.ID.String()})
		wantKind(t, err, errs.Denied, "needs admin")
		if r, err := admin.ReleaseSnapshot(ctx, &tuskvaultv1.ReleaseSnapshotRequest{Snapshot: last.ID.String()}); err != nil || r.GetSnapshot().GetHold() != nil {
			t.Errorf("release: %v, %v", r, err)
		}
		w.doubt = "the agents' clocks say otherwise"
		for range 2 {
			if _, err := admin.ForgetSnapshots(ctx, &tuskvaultv1.ForgetSnapshotsRequest{Snapshots: []string{old.ID.String()}}); err != nil {
				t.Error(err)
			}
			w.doubt = ""
		}
		w.view(func(tx *catalog.Tx) error {
			s, err := tx.Snapshot(old.ID)
			if !s.Forgotten.Doubtful {
				t.Errorf("forgotten by a clock in doubt: %+v", s.Forgotten)
			}
			return err
		})
		for action, actor := range map[string]string{"snapshot.forget": "operator/a", "snapshot.unforget": "operator/o", "snapshot.hold": "operator/o", "snapshot.release": "operator/a"} {
			if got := w.audited(action); len(got) == 0 || got[0].Actor != actor || got[0].Object != "snapshot "+last.ID.String() {
				t.Errorf("%s: audited %+v", action, got)
			}
		}
		var kinds []event.Kind
		events, err := follower.Take()
		for _, e := range events {
			if e.Snapshot == last.ID {
				kinds = append(kinds, e.Kind)
			}
		}
		if diff := cmp.Diff([]event.Kind{event.SnapshotForgotten, event.SnapshotHeld, event.SnapshotUnforgotten, event.SnapshotReleased}, kinds); diff != "" || err != nil {
			t.Errorf("events %s, %v", diff, err)
		}
	})
}

func TestASnapshotThatIsBeingPurgedIsUsedByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.putSnapshot(w.instanceOf("db1", "main"), time.Now(), true, "a")
		s.Forgotten, s.Purged = catalog.Forgotten{Time: time.Now(), By: "operator/a"}, time.Now()
		if err := w.catalog.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error { return tx.PutSnapshot(s) }); err != nil {
			t.Fatal(err)
		}
		cert := w.operator("a", catalog.RoleAdmin).cert
		client := tuskvaultv1.NewSnapshotServiceClient(w.dial(cert))
		id := s.ID.String()
		_, err := client.ListSnapshotTables(t.Context(), &tuskvaultv1.ListSnapshotTablesRequest{Snapshot: id})
		wantKind(t, err, errs.Conflict, "is being purged", "operator/a")
		_, err = client.VerifySnapshot(t.Context(), &tuskvaultv1.VerifySnapshotRequest{RequestId: repo.NewID().String(), Snapshot: id})
		wantKind(t, err, errs.Conflict, "is being purged")
		_, err = tuskvaultv1.NewJobServiceClient(w.dial(cert)).StartRestore(t.Context(), &tuskvaultv1.StartRestoreRequest{RequestId: repo.NewID().String(), Snapshot: id, TargetInstance: "db1/main"})
		wantKind(t, err, errs.Conflict, "is being purged")
		stream, err := tuskvaultv1.NewExportServiceClient(w.dial(cert)).Export(t.Context())
		if err == nil {
			if err = stream.Send(&tuskvaultv1.ExportRequest{Message: &tuskvaultv1.ExportRequest_Begin{Begin: &tuskvaultv1.ExportBegin{Snapshot: id, AllDatabases: true}}}); err == nil {
				_, err = stream.Recv()
			}
		}
		wantKind(t, err, errs.Conflict, "is being purged")
		_, err = client.UnforgetSnapshots(t.Context(), &tuskvaultv1.UnforgetSnapshotsRequest{Snapshots: []string{id}})
		wantKind(t, err, errs.Conflict, "nothing brings it back")
		if r, err := client.ListSnapshots(t.Context(), &tuskvaultv1.ListSnapshotsRequest{}); err != nil || r.GetSnapshots()[0].GetPurgeTime() == nil {
			t.Errorf("list: %v, %v", r, err)
		}
		w.doubt = "the agents' clocks say otherwise"
		st, err := tuskvaultv1.NewStatusServiceClient(w.dial(cert)).GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		if err != nil || !strings.Contains(st.GetNotices()[0].GetMessage()+st.GetNotices()[1].GetMessage(), "the clock is in doubt, nothing is deleted: the agents' clocks say otherwise") {
			t.Errorf("status: %v, %v", st.GetNotices(), err)
		}
	})
}

func TestADifferenceIsPagedAndAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		one := w.instanceOf("db1", "main")
		before, after := w.putSnapshot(one, time.Now(), true, "same", "a", "b"), w.putSnapshot(one, time.Now(), true, "same", "c")
		client := tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		var got []string
		r := &tuskvaultv1.DiffSnapshotsRequest{Before: before.ID.String(), After: after.ID.String(), Page: &tuskvaultv1.PageRequest{Size: 2}}
		for {
			page, err := client.DiffSnapshots(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.GetTables() {
				got = append(got, d.GetDatabase()+" "+d.GetName()+" "+strings.TrimPrefix(d.GetChange().String(), "TABLE_CHANGE_"))
			}
			if r.Page.Token = page.GetPage().GetNextToken(); r.GetPage().GetToken() == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"shop a REMOVED", "shop b REMOVED", "shop c ADDED"}, got); diff != "" {
			t.Error(diff)
		}
		r.IncludeSame, r.Page = true, nil
		if page, err := client.DiffSnapshots(t.Context(), r); err != nil || len(page.GetTables()) != 4 {
			t.Errorf("with those that are the same: %v, %v", page, err)
		}
		r.Database = "shpo"
		_, err := client.DiffSnapshots(t.Context(), r)
		wantKind(t, err, errs.NotFound, "near matches: shop")
		if n := len(w.audited("snapshot.read")); n != 8 {
			t.Errorf("%d reads audited", n)
		}
	})
}
