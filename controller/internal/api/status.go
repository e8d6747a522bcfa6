package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// What counts as worth a person's attention.
const (
	recently   = 24 * time.Hour      // a failed job is news for so long
	lateExport = time.Minute         // changes are exported within seconds
	badSkew    = 5 * time.Minute     // clocks further apart make times hard to compare
	maxNamed   = 3                   // names in one notice; the rest is counted
	certSoon   = 14 * 24 * time.Hour // certificates renew with 30 days left
)

// statusService is StatusService.
type statusService struct {
	tuskvaultv1.UnimplementedStatusServiceServer
	deps Deps
}

// WhoAmI tells the caller who the controller takes it for.
func (s *statusService) WhoAmI(ctx context.Context, _ *tuskvaultv1.WhoAmIRequest) (*tuskvaultv1.WhoAmIResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.WhoAmIResponse{Identity: c.String(), CertificateExpireTime: toTime(c.Expires)}
	if c.Operator != "" {
		out.Role = c.Role.String()
	}
	return out, nil
}

// census is what one walk through the catalog counts.
type census struct {
	now              time.Time
	agents           int // not revoked
	online           int
	skewed, expiring []string
	instances        int
	unprotected      []string
	snapshots        int64
	stored, plain    int64
	active           int
	failed           []catalog.Job // of the last day, newest first
	health           *tuskvaultv1.RepositoryHealth
	pauses           []catalog.Pause
	drills           int           // snapshots that did not pass their newest drill
	drill            catalog.Drill // the newest of these
	copies           []*tuskvaultv1.CopyStatus
	store            catalog.StoreFeatures
}

// GetStatus gives the fleet on one screen.
func (s *statusService) GetStatus(ctx context.Context, _ *tuskvaultv1.GetStatusRequest) (*tuskvaultv1.GetStatusResponse, error) {
	n := census{now: time.Now()}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		var err error
		n.pauses, err = tx.OpenPauses()
		var storeErr error
		if n.store, storeErr = tx.StoreFeatures(); errors.Is(storeErr, errs.NotFound) {
			storeErr = nil
		}
		return errors.Join(err, storeErr, n.countSnapshots(tx), n.countInstances(tx), s.countAgents(tx, &n), n.countJobs(tx), n.countDrills(tx))
	})
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	f := s.deps.Facts
	if f.StoredBytes != nil {
		if n.stored, err = f.StoredBytes(ctx); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	}
	var lag time.Duration
	if f.ExportLag != nil {
		if lag, err = f.ExportLag(ctx); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	}
	out := &tuskvaultv1.GetStatusResponse{Build: toBuild(f.Build), Name: f.Name, StartTime: toTime(f.Started), RepositoryId: f.Repository.String(),
		Store: f.Store, Epoch: f.Epoch, AgentsOnline: int32(n.online), AgentsOffline: int32(n.agents - n.online), Instances: int32(n.instances),
		InstancesUnprotected: int32(len(n.unprotected)), Snapshots: n.snapshots, StoredBytes: n.stored, PlainBytes: n.plain,
		JobsActive: int32(n.active), JobsFailedRecently: int32(len(n.failed)), CatalogExportLag: durationpb.New(lag)}
	if out.RepositoryHealth, err = s.health(ctx); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	n.health = out.GetRepositoryHealth()
	out.DrillsFailed = int32(n.drills)
	out.Copies = s.deps.copyStatus()
	n.copies = out.GetCopies()
	out.Notices = s.notices(ctx, &n, lag)
	return out, nil
}

func (n *census) countSnapshots(tx *catalog.Tx) error {
	totals, err := tx.Totals()
	n.snapshots, n.stored, n.plain = totals.Snapshots, totals.StoredBytes, totals.PlainBytes
	return err
}

func (n *census) countInstances(tx *catalog.Tx) error {
	return each(func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, nil) }, func(i catalog.Instance) error {
		n.instances++
		last, err := newestComplete(tx, i.ID)
		if last.ID.IsZero() {
			n.unprotected = append(n.unprotected, i.FullName())
		}
		return err
	})
}

func (s *statusService) countAgents(tx *catalog.Tx, n *census) error {
	return each(func(p catalog.Page) ([]catalog.Agent, string, error) { return tx.Agents(p, nil) }, func(a catalog.Agent) error {
		if a.State == catalog.AgentRevoked {
			return nil
		}
		n.agents++
		live := s.deps.Hub.Presence(a.ID)
		if live.Online {
			n.online++
			if live.ClockSkew.Abs() > badSkew {
				n.skewed = append(n.skewed, fmt.Sprintf("%s (%s)", a.Name, live.ClockSkew.Round(time.Second)))
			}
		}
		if expires := toAgent(a, live, 0).GetCertificateExpireTime(); expires != nil && expires.AsTime().Sub(n.now) < certSoon {
			n.expiring = append(n.expiring, a.Name)
		}
		return nil
	})
}

// countJobs counts what is active, and what failed of late: the list is newest
// first by creation, and a job that failed within a day was made not much
// earlier, so that walk ends a week back.
func (n *census) countJobs(tx *catalog.Tx) error {
	for _, err := range tx.JobsIn(catalog.JobQueued, catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted) {
		if err != nil {
			return err
		}
		n.active++
	}
	filter := catalog.JobFilter{States: []catalog.JobState{catalog.JobFailed, catalog.JobLost}}
	err := each(func(p catalog.Page) ([]catalog.Job, string, error) { return tx.Jobs(p, filter) }, func(j catalog.Job) error {
		if n.now.Sub(j.Ended) < recently {
			n.failed = append(n.failed, j)
		}
		if n.now.Sub(j.Created) > 7*recently {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// countDrills counts snapshots that were not proved when that was tried last: it
// stays news until a drill of them passes or they are gone.
func (n *census) countDrills(tx *catalog.Tx) error {
	return tx.FailedDrills(func(d catalog.Drill) error {
		if n.drills++; d.Received.After(n.drill.Received) {
			n.drill = d
		}
		return nil
	})
}

// notices says what needs a person, errors first.
func (s *statusService) notices(ctx context.Context, n *census, lag time.Duration) []*tuskvaultv1.StatusNotice {
	var out []*tuskvaultv1.StatusNotice
	add := func(severity tuskvaultv1.Severity, hint, format string, args ...any) {
		out = append(out, &tuskvaultv1.StatusNotice{Severity: severity, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	const warning, failure = tuskvaultv1.Severity_SEVERITY_WARNING, tuskvaultv1.Severity_SEVERITY_ERROR
	if len(n.pauses) > 0 {
		severity := warning // what every rebuild leaves
		if slices.ContainsFunc(n.pauses, func(p catalog.Pause) bool { return p.Kind != catalog.PauseRebuild }) {
			severity = failure
		}
		add(severity, "tuskctl repo resume-deletion, once you know that the store is what it should be", "deletion is paused: %s", catalog.Reasons(n.pauses))
	}
	if doubt := s.deps.Deletion.doubt(); doubt != "" {
		add(failure, "check time synchronization here and on the agents' hosts", "the clock is in doubt, nothing is deleted: %s", doubt)
	}
	if d := s.deps.Deletion.Deferred; d != nil {
		if n, why := d(); n > 0 {
			add(warning, "it is tried again; if no object lock explains it, look at the store's rights", "%s not let go by the store: %s", plural(n, "purged snapshot is", "purged snapshots are"), why)
		}
	}
	for _, text := range n.store.Warnings {
		add(warning, "docs/OPERATIONS.md, S3", "the store protects less than it could: %s", text)
	}
	if lag > lateExport {
		add(failure, "", "changes of the catalog wait for the store since %s; see the controller's log", lag.Round(time.Second))
	}
	if len(n.failed) > 0 {
		j := n.failed[0]
		add(failure, "tuskctl job logs "+j.ID.Short(), "%s within 24 hours; the newest is the %s of %s: %s", plural(len(n.failed), "job failed", "jobs failed"), j.Kind, j.InstanceName, j.Message)
	}
	if h := n.health; h.GetDamagedPacks() > 0 {
		add(failure, "tuskctl repo check --last, or tuskctl repo check --read-data for the tables concerned; the next backup of the same rows mends what it can",
			"%s known to be damaged in the store", plural(int(h.GetDamagedPacks()), "pack is", "packs are"))
	} else if h.GetCheckState() == catalog.CheckDamaged.String() {
		add(failure, "tuskctl repo check --last", "the last check of %s found damage in %s; %s hurt", checkedStore(h),
			plural(int(h.GetDamagedObjects()), "object", "objects"), plural(int(h.GetSnapshotsHurt()), "snapshot is", "snapshots are"))
	} else if h.GetCheckState() == catalog.CheckFailed.String() {
		add(warning, "tuskctl repo check --last, then tuskctl repo check --resume", "the last check of %s ended without a verdict", checkedStore(h))
	}
	if n.drills > 0 {
		add(failure, "tuskctl snapshot show "+n.drill.Snapshot.Short(), "%s; the newest is of snapshot %s on %s: %s",
			plural(n.drills, "snapshot did not pass its last drill", "snapshots did not pass their last drill"), n.drill.Snapshot.Short(), n.drill.AgentName, n.drill.Verdict)
	}
	if problem := n.health.GetPruneProblem(); problem != "" {
		add(warning, "tuskctl repo prune --last; what each problem means: docs/OPERATIONS.md, Pruning", "a prune cannot go on: %s", problem)
	}
	copyNotices(n.copies, add)
	if len(n.unprotected) > 0 {
		add(failure, "tuskctl backup "+n.unprotected[0], "without any complete snapshot: %s", named(n.unprotected))
	}
	if n.agents == 0 {
		add(warning, "tuskctl agent token create", "no agent has enrolled yet")
	}
	if s.deps.Facts.Protected != nil {
		if safe, err := s.deps.Facts.Protected(ctx); err == nil && !safe {
			add(warning, "tuskctl repo key export, print it, keep it elsewhere, and tuskctl repo key confirm", "one key alone opens the repository: if it is lost, every snapshot is lost")
		}
	}
	if len(n.skewed) > 0 {
		add(warning, "check time synchronization on these hosts and here", "clocks differ from the controller's: %s", named(n.skewed))
	}
	if len(n.expiring) > 0 {
		add(warning, "tuskctl agent replace "+n.expiring[0], "certificates expire within 14 days and were not renewed: %s", named(n.expiring))
	}
	if off := n.agents - n.online; off > 0 {
		add(warning, "tuskctl agent ls", "%s offline", plural(off, "agent is", "agents are"))
	}
	slices.SortStableFunc(out, func(a, b *tuskvaultv1.StatusNotice) int { return int(b.GetSeverity()) - int(a.GetSeverity()) })
	return out
}

// checkedStore says what the last check was of.
func checkedStore(h *tuskvaultv1.RepositoryHealth) string {
	if h.GetCheckCopy() != "" {
		return "copy " + h.GetCheckCopy()
	}
	return "the repository"
}

// named gives a few names and counts the rest.
func named(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
