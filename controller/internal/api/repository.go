package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Checks runs checks of the repository. *scrub.Checker implements it.
type Checks interface {
	Start(ctx context.Context, spec scrub.Spec) (scrub.State, error)
	Cancel() (scrub.State, error)
	Last(ctx context.Context) (scrub.State, error)
	Watch(ctx context.Context, fn func(scrub.State) error) error
}

// repositoryService is RepositoryService.
type repositoryService struct {
	tuskvaultv1.UnimplementedRepositoryServiceServer
	deps Deps
	// measuring is of 1: a listing of a large store takes minutes, and many at once
	// would take what backups need.
	measuring chan struct{}
}

func newRepositoryService(d Deps) *repositoryService {
	return &repositoryService{deps: d, measuring: make(chan struct{}, 1)}
}

// CheckRepository begins a check.
func (s *repositoryService) CheckRepository(ctx context.Context, r *tuskvaultv1.CheckRepositoryRequest) (*tuskvaultv1.CheckRepositoryResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id, err := parseRequestID(r.GetRequestId())
	switch {
	case err != nil:
		return nil, err
	case r.GetSampleMillionths() < 0 || r.GetSampleMillionths() > check.Whole:
		return nil, field("sample_millionths", "%d: want 0 to %d", r.GetSampleMillionths(), check.Whole)
	case r.GetBytesPerSecond() < 0:
		return nil, field("bytes_per_second", "%d: is negative", r.GetBytesPerSecond())
	case r.GetReadData() && r.GetSampleMillionths() == 0:
		return nil, field("read_data", "there is no data to read in a sample of nothing")
	}
	state, err := s.deps.Checks.Start(ctx, scrub.Spec{ID: id, By: c.String(), Copy: r.GetCopy(), ReadData: r.GetReadData(), Sample: int(r.GetSampleMillionths()), Seed: r.GetSeed(),
		Resume: r.GetResume(), BytesPerSecond: r.GetBytesPerSecond()})
	if err != nil {
		return nil, fmt.Errorf("check repository: %w", err)
	}
	of := ""
	if r.GetCopy() != "" {
		of = "copy " + r.GetCopy() + ", "
	}
	detail := of + fmt.Sprintf("read data %v, sample %d millionths, resume %v", r.GetReadData(), r.GetSampleMillionths(), r.GetResume())
	if err := s.deps.Trail.Record(ctx, record(c, "repository.check", "check "+id.String(), detail)); err != nil {
		return nil, err
	}
	return &tuskvaultv1.CheckRepositoryResponse{Check: toCheck(state)}, nil
}

// WatchCheck sends the last check now and after changes, and ends after its end.
func (s *repositoryService) WatchCheck(_ *tuskvaultv1.WatchCheckRequest, stream grpc.ServerStreamingServer[tuskvaultv1.WatchCheckResponse]) error {
	return s.deps.Checks.Watch(stream.Context(), func(state scrub.State) error {
		return stream.Send(&tuskvaultv1.WatchCheckResponse{Check: toCheck(state)})
	})
}

// GetCheck shows the last check with what it found.
func (s *repositoryService) GetCheck(ctx context.Context, r *tuskvaultv1.GetCheckRequest) (*tuskvaultv1.GetCheckResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	state, err := s.deps.Checks.Last(ctx)
	if err != nil {
		return nil, fmt.Errorf("show check: %w", err)
	}
	names, err := s.names(ctx)
	if err != nil {
		return nil, fmt.Errorf("show check: %w", err)
	}
	out := &tuskvaultv1.GetCheckResponse{Check: toCheck(state)}
	first, next, err := findingsPage(state.Check, page)
	if err != nil {
		return nil, err
	}
	for _, f := range first {
		out.Findings = append(out.Findings, toFinding(f, names))
	}
	if page.Token == "" {
		for _, h := range state.Hurt {
			out.Snapshots = append(out.Snapshots, &tuskvaultv1.HurtSnapshot{SnapshotId: h.Snapshot.String(), Instance: names.of(h.Instance), Whole: h.Whole, Objects: h.Objects})
		}
	}
	out.Page = toPage(next)
	if len(out.GetFindings()) > 0 {
		if err := s.deps.Trail.Record(ctx, record(c, "repository.read-check", "check "+state.ID.String(), fmt.Sprintf("%d findings", len(out.GetFindings())))); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CancelCheck asks the check that runs to stop.
func (s *repositoryService) CancelCheck(ctx context.Context, _ *tuskvaultv1.CancelCheckRequest) (*tuskvaultv1.CancelCheckResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	state, err := s.deps.Checks.Cancel()
	if err != nil {
		return nil, err
	}
	if err := s.deps.Trail.Record(ctx, record(c, "repository.check-cancel", "check "+state.ID.String(), "")); err != nil {
		return nil, err
	}
	return &tuskvaultv1.CancelCheckResponse{Check: toCheck(state)}, nil
}

// GetRepositoryStats counts what is stored.
func (s *repositoryService) GetRepositoryStats(ctx context.Context, _ *tuskvaultv1.GetRepositoryStatsRequest) (*tuskvaultv1.GetRepositoryStatsResponse, error) {
	select {
	case s.measuring <- struct{}{}:
		defer func() { <-s.measuring }()
	case <-ctx.Done():
		return nil, fmt.Errorf("repository statistics: somebody else's are being gathered: %w", context.Cause(ctx))
	}
	measured, err := s.deps.Measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository statistics: %w", err)
	}
	uses, err := s.domainUses(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository statistics: %w", err)
	}
	out := toStats(measured, uses)
	out.Copies = s.deps.copyStatus()
	var store catalog.StoreFeatures
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { store, err = tx.StoreFeatures(); return err })
	switch {
	case err == nil:
		out.Store = toStoreFeatures(store)
	case !errors.Is(err, errs.NotFound):
		return nil, fmt.Errorf("repository statistics: %w", err)
	}
	return out, nil
}

// domainUse is what the catalog knows of a domain's use.
type domainUse struct {
	instances               []string
	snapshots, refs, plains int64
}

// domainUses sums up snapshots and instances by domain.
func (s *repositoryService) domainUses(ctx context.Context) (map[seal.DomainID]*domainUse, error) {
	uses := map[seal.DomainID]*domainUse{}
	at := func(id seal.DomainID) *domainUse {
		if uses[id] == nil {
			uses[id] = &domainUse{}
		}
		return uses[id]
	}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		err := each(func(p catalog.Page) ([]catalog.Snapshot, string, error) { return tx.Snapshots(p, nil) }, func(x catalog.Snapshot) error {
			u := at(x.Domain)
			u.snapshots, u.refs, u.plains = u.snapshots+1, u.refs+x.Chunks, u.plains+x.PlainBytes
			return nil
		})
		return errors.Join(err, each(func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, nil) }, func(i catalog.Instance) error {
			at(i.Domain).instances = append(at(i.Domain).instances, i.FullName())
			return nil
		}))
	})
	return uses, err
}

// namesByID are the names of instances by id.
type namesByID map[repo.InstanceID]string

// of gives a name, or the id of an instance that is not known any more.
func (n namesByID) of(id repo.InstanceID) string {
	if name, ok := n[id]; ok {
		return name
	}
	return id.String()
}

func (s *repositoryService) names(ctx context.Context) (namesByID, error) {
	names := namesByID{}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		return each(func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, nil) }, func(i catalog.Instance) error {
			names[i.ID] = i.FullName()
			return nil
		})
	})
	return names, err
}

// health says in status how sound the repository was found to be.
func (s *statusService) health(ctx context.Context) (*tuskvaultv1.RepositoryHealth, error) {
	out := &tuskvaultv1.RepositoryHealth{}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		last, err := tx.Check()
		if err == nil {
			out.CheckState, out.CheckTime, out.CheckCopy = last.State.String(), toTime(last.Ended), last.Copy
			if last.State == catalog.CheckRunning {
				out.CheckTime = toTime(last.Started)
			}
			out.DamagedObjects, out.SnapshotsHurt = last.Harm, last.HurtTotal
		} else if !errors.Is(err, errs.NotFound) {
			return err
		}
		round, err := tx.Scrub()
		if err == nil {
			out.ScrubCompleteTime, out.ScrubStartTime = toTime(round.Completed), toTime(round.Started)
			out.ScrubPacks, out.ScrubBytes = round.Packs, round.Bytes
		} else if !errors.Is(err, errs.NotFound) {
			return err
		}
		for _, err := range tx.DamagedPacks() {
			if err != nil {
				return err
			}
			out.DamagedPacks++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	prunes, err := s.deps.Prunes.Health(ctx)
	out.CondemnedBytes, out.CondemnedTime, out.PruneProblem = prunes.Bytes, toTime(prunes.Since), strings.ToValidUTF8(prunes.Problem, "?")
	return out, err
}
