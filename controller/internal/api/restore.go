package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// StartRestore journals a restore, or the dry run of one, and queues it. The
// target may be any enrolled instance, also one of another domain: an operator
// asked for it by name, and the keys of the snapshot's domain are granted to
// that job's attempts alone.
func (s *jobService) StartRestore(ctx context.Context, r *tuskvaultv1.StartRestoreRequest) (*tuskvaultv1.StartRestoreResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id, err := parseRequestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	spec, err := parseRestore(r)
	if err != nil {
		return nil, err
	}
	var snapshot catalog.Snapshot
	var target catalog.Instance
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if snapshot, err = snapshotFor(tx, id, r.GetSnapshot()); err != nil {
			return err
		}
		if target, err = findInstance(tx, "target_instance", r.GetTargetInstance()); err != nil {
			return err
		}
		return checkTarget(tx, snapshot, target, r)
	})
	if err != nil {
		return nil, fmt.Errorf("start restore: %w", err)
	}
	spec.Snapshot = snapshot.ID
	j, err := s.create(ctx, c, job.Spec{ID: id, Instance: target.ID, By: c.String(), Restore: spec}, restoreDetail(snapshot, target, r))
	if err != nil {
		return nil, fmt.Errorf("start restore of snapshot %s to %s: %w", snapshot.ID.Short(), target.FullName(), err)
	}
	return &tuskvaultv1.StartRestoreResponse{Job: s.job(j), Warnings: forgottenWarning(snapshot)}, nil
}

// snapshotFor resolves the snapshot. A repeated request with "latest" means
// what it meant the first time, though newer snapshots exist by now.
func snapshotFor(tx *catalog.Tx, id repo.JobID, ref string) (catalog.Snapshot, error) {
	if strings.HasPrefix(ref, latest) {
		j, err := tx.Job(id)
		if err == nil && j.Restore != nil {
			return tx.Snapshot(j.Restore.Snapshot)
		} else if err != nil && !errors.Is(err, errs.NotFound) {
			return catalog.Snapshot{}, err
		}
	}
	return findSnapshot(tx, ref)
}

// checkTarget refuses early what is known not to work.
func checkTarget(tx *catalog.Tx, snapshot catalog.Snapshot, target catalog.Instance, r *tuskvaultv1.StartRestoreRequest) error {
	var words []string
	if !r.GetDryRun() {
		words = append(words, allowRestoreNew)
		if r.GetReplace() || r.GetOverwritePasswords() {
			words = append(words, allowRestoreReplace)
		}
		if r.GetGlobals() {
			words = append(words, allowRestoreGlobals)
		}
	}
	if err := checkAllowed(tx, target, words...); err != nil {
		return err
	}
	inventory := target.Inventory
	source, major := major(snapshot.ServerVersion), major(inventory.ServerVersion)
	switch {
	case inventory.ServerVersion != 0 && snapshot.ServerVersion != 0 && major < source:
		return fmt.Errorf("snapshot %s is of PostgreSQL %d, %s runs PostgreSQL %d; restore to the same or a newer major version: %w",
			snapshot.ID.Short(), source, target.FullName(), major, errs.Conflict)
	case inventory.Reachable && inventory.InRecovery && !r.GetDryRun():
		return fmt.Errorf("instance %s is a standby and cannot be written; restore to its primary: %w", target.FullName(), errs.Conflict)
	}
	return nil
}

// major gives the major version of a server_version_num.
func major(version int32) int32 { return version / 10000 }

// parseMappings checks which databases are to be restored, under which names.
func parseMappings(list []*tuskvaultv1.DatabaseMapping) ([]catalog.DatabaseMapping, error) {
	if len(list) > maxGlobs {
		return nil, field("databases", "%d entries, at most %d are taken", len(list), maxGlobs)
	}
	var out []catalog.DatabaseMapping
	targets := make(map[string]bool)
	for _, m := range list {
		target := m.GetTarget()
		if target == "" {
			target = m.GetSource()
		}
		switch {
		case m.GetSource() == "":
			return nil, field("databases", "an entry has no source")
		case len(m.GetSource()) > maxGlobBytes || len(target) > maxGlobBytes:
			return nil, field("databases", "a name has more than %d bytes", maxGlobBytes)
		case targets[target]:
			return nil, field("databases", "two entries would be restored as %q", target)
		}
		targets[target] = true
		out = append(out, catalog.DatabaseMapping{Source: m.GetSource(), Target: m.GetTarget()})
	}
	return out, nil
}

// restoreDetail says for the audit trail what was asked for. That the data
// leaves its domain is said in so many words.
func restoreDetail(snapshot catalog.Snapshot, target catalog.Instance, r *tuskvaultv1.StartRestoreRequest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %s of %s to %s", snapshot.ID, snapshot.InstanceName, target.FullName())
	if snapshot.Domain != target.Domain {
		b.WriteString(", another domain")
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{r.GetDryRun(), "dry run"}, {r.GetReplace(), "replace"}, {r.GetNoOwner(), "no owner"}, {r.GetGlobals(), "globals"},
		{r.GetReadBack(), "read back"}, {r.GetNoAnalyze(), "no statistics"},
		{r.GetGlobalsOnly(), "nothing but globals"}, {r.GetOverwritePasswords(), "overwrite passwords"}, {r.GetLive(), "live"},
		{r.GetSkipDamaged(), "skip damaged"}, {len(r.GetSchemas()) > 0, "schemas " + clip(strings.Join(r.GetSchemas(), " "), maxReason)},
		{len(r.GetTables()) > 0, "tables " + clip(strings.Join(r.GetTables(), " "), maxReason)}} {
		if flag.set {
			b.WriteString(", " + flag.name)
		}
	}
	for _, m := range r.GetDatabases() {
		fmt.Fprintf(&b, ", %s", m.GetSource())
		if m.GetTarget() != "" {
			fmt.Fprintf(&b, " as %s", m.GetTarget())
		}
	}
	return b.String()
}
