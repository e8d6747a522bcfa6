package ctl_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (f *fake) changed(refs ...string) []*tuskvaultv1.Snapshot {
	var out []*tuskvaultv1.Snapshot
	for _, ref := range refs {
		id := snapshotA
		if strings.HasPrefix(snapshotB, ref) {
			id = snapshotB
		}
		out = append(out, &tuskvaultv1.Snapshot{Id: id, Instance: "db1/main", Complete: true})
	}
	return out
}

// ForgetSnapshots takes c1 for held and c2 for the last one.
func (f *fake) ForgetSnapshots(_ context.Context, r *tuskvaultv1.ForgetSnapshotsRequest) (*tuskvaultv1.ForgetSnapshotsResponse, error) {
	for _, ref := range r.GetSnapshots() {
		switch {
		case ref == "c1":
			return nil, fmt.Errorf("forget snapshots: snapshot c1000000 is held until 2027-01-01T00:00:00Z by operator/bob (audit): %w", errs.Conflict)
		case ref == "c2" && r.GetAllowLast() != "db1/main":
			return nil, fmt.Errorf("forget snapshots: snapshot c2000000 is the last complete snapshot of database shop of db1/main: %w", errs.Conflict)
		case !strings.HasPrefix(snapshotA, ref) && !strings.HasPrefix(snapshotB, ref):
			return nil, fmt.Errorf("forget snapshots: snapshot %q: %w", ref, errs.NotFound)
		}
	}
	out := f.changed(r.GetSnapshots()...)
	for _, s := range out {
		s.Forgotten = &tuskvaultv1.SnapshotForgotten{Time: timestamppb.New(f.now), By: "operator/admin", Reason: r.GetReason(), PurgeAfterTime: timestamppb.New(f.now.Add(71*time.Hour + 30*time.Minute))}
	}
	return &tuskvaultv1.ForgetSnapshotsResponse{Snapshots: out}, nil
}

func (f *fake) UnforgetSnapshots(_ context.Context, r *tuskvaultv1.UnforgetSnapshotsRequest) (*tuskvaultv1.UnforgetSnapshotsResponse, error) {
	return &tuskvaultv1.UnforgetSnapshotsResponse{Snapshots: f.changed(r.GetSnapshots()...)}, nil
}

func (f *fake) HoldSnapshot(_ context.Context, r *tuskvaultv1.HoldSnapshotRequest) (*tuskvaultv1.HoldSnapshotResponse, error) {
	s := f.changed(r.GetSnapshot())[0]
	s.Hold = &tuskvaultv1.SnapshotHold{UntilTime: r.GetUntilTime(), By: "operator/admin", Reason: r.GetReason()}
	return &tuskvaultv1.HoldSnapshotResponse{Snapshot: s}, nil
}

func (f *fake) ReleaseSnapshot(_ context.Context, r *tuskvaultv1.ReleaseSnapshotRequest) (*tuskvaultv1.ReleaseSnapshotResponse, error) {
	return &tuskvaultv1.ReleaseSnapshotResponse{Snapshot: f.changed(r.GetSnapshot())[0]}, nil
}

// DiffSnapshots gives one table a page.
func (f *fake) DiffSnapshots(_ context.Context, r *tuskvaultv1.DiffSnapshotsRequest) (*tuskvaultv1.DiffSnapshotsResponse, error) {
	out := &tuskvaultv1.DiffSnapshotsResponse{Before: snapshotA, After: snapshotB, Page: &tuskvaultv1.PageResponse{}}
	if r.GetPage().GetToken() == "" {
		out.Page.NextToken = "2"
		out.Tables = []*tuskvaultv1.TableDiff{{Database: "shop", Schema: "public", Name: "orders", Change: tuskvaultv1.TableChange_TABLE_CHANGE_CHANGED, RowsBefore: 1000, RowsAfter: 2500}}
		return out, nil
	}
	out.Before, out.After = "", ""
	out.Tables = []*tuskvaultv1.TableDiff{{Database: "shop", Schema: "public", Name: "past", Change: tuskvaultv1.TableChange_TABLE_CHANGE_REMOVED, RowsBefore: 7}}
	return out, nil
}
