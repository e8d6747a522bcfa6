package ctl_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// The seeds of the fake's checks say how they end.
const (
	seedDamaged = 7
	seedFailed  = 8
	seedBusy    = 9
	seedForever = 10
)

func (f *fake) CheckRepository(_ context.Context, r *tuskvaultv1.CheckRepositoryRequest) (*tuskvaultv1.CheckRepositoryResponse, error) {
	if r.GetSeed() == seedBusy {
		return nil, fmt.Errorf("check repository: check 1f3a by operator/bob runs: %w", errs.Busy)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check = &tuskvaultv1.Check{Id: r.GetRequestId(), State: tuskvaultv1.CheckState_CHECK_STATE_RUNNING, CreatedBy: "operator/admin", ReadData: r.GetReadData(),
		SampleMillionths: r.GetSampleMillionths(), Seed: r.GetSeed(), Copy: r.GetCopy(), StartTime: timestamppb.New(f.now)}
	return &tuskvaultv1.CheckRepositoryResponse{Check: proto.CloneOf(f.check)}, nil
}

func (f *fake) WatchCheck(_ *tuskvaultv1.WatchCheckRequest, s grpc.ServerStreamingServer[tuskvaultv1.WatchCheckResponse]) error {
	f.mu.Lock()
	c := proto.CloneOf(f.check)
	f.mu.Unlock()
	if c == nil {
		return fmt.Errorf("check of the repository: there was none: %w", errs.NotFound)
	}
	c.Progress = &tuskvaultv1.CheckProgress{Phase: "frames", Domains: 3, Packs: 40, PacksChecked: 40, PacksRead: 11, BytesRead: 5 << 20}
	if err := s.Send(&tuskvaultv1.WatchCheckResponse{Check: c}); err != nil {
		return err
	}
	if c.GetSeed() == seedForever {
		<-s.Context().Done()
		return s.Context().Err()
	}
	c.Progress, c.EndTime, c.State, c.Message = nil, timestamppb.New(f.now.Add(time.Minute)), tuskvaultv1.CheckState_CHECK_STATE_CLEAN, "nothing is wrong"
	c.Snapshots, c.Packs, c.Chunks, c.PacksRead, c.FramesRead, c.BytesRead = 12, 40, 9000, 2, 450, 90<<20
	switch c.GetSeed() {
	case seedDamaged:
		c.State, c.Message = tuskvaultv1.CheckState_CHECK_STATE_DAMAGED, "1 objects with damage, 1 snapshots hurt"
		c.DamagedObjects, c.Findings, c.SnapshotsHurt = 1, 3, 1
	case seedFailed:
		c.State, c.Message = tuskvaultv1.CheckState_CHECK_STATE_FAILED, "check repository: list objects: unavailable"
	}
	f.mu.Lock()
	f.check = c
	f.mu.Unlock()
	return s.Send(&tuskvaultv1.WatchCheckResponse{Check: c})
}

// GetCheck gives one finding a page, so that paging is seen to work.
func (f *fake) GetCheck(_ context.Context, r *tuskvaultv1.GetCheckRequest) (*tuskvaultv1.GetCheckResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.check == nil {
		return nil, fmt.Errorf("check of the repository: there was none: %w", errs.NotFound)
	}
	out := &tuskvaultv1.GetCheckResponse{Check: f.check, Page: &tuskvaultv1.PageResponse{}}
	switch {
	case f.check.GetState() != tuskvaultv1.CheckState_CHECK_STATE_DAMAGED:
	case r.GetPage().GetToken() == "":
		out.Page.NextToken = "2"
		out.Findings = []*tuskvaultv1.CheckFinding{{Object: "packs/d1/ab/abcd", Problem: "damaged", Detail: "frame of chunk 12 at 24: hash differs: corrupt", Chunks: 3,
			Effects: []*tuskvaultv1.CheckEffect{{SnapshotId: snapshotA, Instance: "db1/main", Database: "shop", Object: "public.orders"}}, EffectsMore: 4}}
		out.Snapshots = []*tuskvaultv1.HurtSnapshot{{SnapshotId: snapshotA, Instance: "db1/main", Objects: 5}}
	default:
		out.Findings = []*tuskvaultv1.CheckFinding{{Object: "index/d1/", Problem: "missing", Harmless: true, Detail: "no index file names 2 packs"}}
	}
	return out, nil
}

func (f *fake) CancelCheck(context.Context, *tuskvaultv1.CancelCheckRequest) (*tuskvaultv1.CancelCheckResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.check.GetState() != tuskvaultv1.CheckState_CHECK_STATE_RUNNING {
		return nil, fmt.Errorf("cancel the check: none runs: %w", errs.Conflict)
	}
	return &tuskvaultv1.CancelCheckResponse{Check: f.check}, nil
}

// fakeCopies are a copy that is fine and one that is not.
func fakeCopies() []*tuskvaultv1.CopyStatus {
	return []*tuskvaultv1.CopyStatus{
		{Name: "near", Store: "/mnt/near", State: tuskvaultv1.CopyState_COPY_STATE_COMPLETE, Reads: 3, Healed: 1},
		{Name: "far", Store: "s3://b/far", State: tuskvaultv1.CopyState_COPY_STATE_FAILING, ObjectsWaiting: 1200, BytesWaiting: 3 << 30, Lag: durationpb.New(26 * time.Hour),
			MaxLag: durationpb.New(24 * time.Hour), Late: true, Strays: 2, LeftOut: 1, Problem: "no space left"},
	}
}

func (f *fake) GetRepositoryStats(context.Context, *tuskvaultv1.GetRepositoryStatsRequest) (*tuskvaultv1.GetRepositoryStatsResponse, error) {
	return &tuskvaultv1.GetRepositoryStatsResponse{Snapshots: 12, Packs: 40, StoredBytes: 2 << 30, FrameBytes: 1900 << 20, Overhead: 0.0125, PlainBytes: 60 << 30, Copies: fakeCopies(),
		Store:   &tuskvaultv1.StoreFeatures{Location: "s3://b/p", AtomicCreate: true, Versions: true, Lock: "compliance", Encryption: "AES256", Warnings: []string{"one key writes and deletes"}},
		Objects: []*tuskvaultv1.ObjectStats{{Kind: "index", Objects: 12, Bytes: 1 << 20}, {Kind: "packs", Objects: 40, Bytes: 2 << 30}},
		Domains: []*tuskvaultv1.DomainStats{{Id: "e1000000000000000000000000000000", Instances: []string{"db1/main", "db2/main", "db3/main", "db4/main"}, Snapshots: 12, Packs: 40,
			PackBytes: 2 << 30, Chunks: 9000, ChunkReferences: 81000, PlainBytes: 60 << 30, DedupFactor: 9, Reduction: 30}}}, nil
}
