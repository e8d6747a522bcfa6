package erase

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// scope is all that goes with an instance.
type scope struct {
	instance  catalog.Instance
	domains   []seal.DomainID    // sorted
	instances []catalog.Instance // that write to the domains or have snapshots in them
	snapshots []repo.JobID       // in the domains; 16 bytes each
}

// scopeOf finds the domains in which an instance has or will have data, and who
// else is in them.
func scopeOf(tx *catalog.Tx, name string) (*scope, error) {
	if !strings.Contains(name, "/") {
		return nil, fmt.Errorf("instance %q: an erasure wants the full name, AGENT/INSTANCE: %w", name, errs.Invalid)
	}
	i, err := tx.FindInstance(name)
	if err != nil {
		return nil, err
	}
	s := &scope{instance: i}
	s.add(i.Domain)
	s.add(i.OwnDomain)
	var others []catalog.Snapshot
	err = pages(func(p catalog.Page) ([]catalog.Snapshot, string, error) { return tx.SnapshotsOf(i.ID, p) }, func(x catalog.Snapshot) { s.add(x.Domain) })
	if err == nil {
		err = pages(func(p catalog.Page) ([]catalog.Snapshot, string, error) {
			return tx.Snapshots(p, func(x catalog.Snapshot) bool { return s.has(x.Domain) })
		}, func(x catalog.Snapshot) {
			s.snapshots = append(s.snapshots, x.ID)
			if !slices.ContainsFunc(others, func(o catalog.Snapshot) bool { return o.Instance == x.Instance }) {
				others = append(others, x)
			}
		})
	}
	if err == nil {
		err = pages(func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, nil) }, func(x catalog.Instance) {
			if s.has(x.Domain) || s.has(x.OwnDomain) || slices.ContainsFunc(others, func(o catalog.Snapshot) bool { return o.Instance == x.ID }) {
				s.instances = append(s.instances, x)
			}
		})
	}
	slices.SortFunc(s.domains, func(a, b seal.DomainID) int { return bytes.Compare(a[:], b[:]) })
	return s, err
}

func pages[R any](read func(catalog.Page) ([]R, string, error), fn func(R)) error {
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := read(page)
		if err != nil {
			return err
		}
		for _, r := range rows {
			fn(r)
		}
		if next == "" {
			return nil
		}
		page.Token = next
	}
}

func (s *scope) has(id seal.DomainID) bool { return slices.Contains(s.domains, id) }

func (s *scope) add(id seal.DomainID) {
	if id != (seal.DomainID{}) && !s.has(id) {
		s.domains = append(s.domains, id)
	}
}

func (s *scope) result() Result {
	r := Result{Domains: s.domains, Snapshots: int64(len(s.snapshots))}
	for _, i := range s.instances {
		r.Instances = append(r.Instances, i.FullName())
	}
	return r
}

// allowed gives the scope of a request, if nothing speaks against it.
func allowed(tx *catalog.Tx, r Request) (*scope, error) {
	s, err := scopeOf(tx, r.Instance)
	if err != nil {
		return nil, err
	}
	if len(s.instances) > 1 && !r.WholeDomain {
		return nil, fmt.Errorf("instance %s shares its domain with others, whose snapshots would go too (%s): %w", r.Instance, strings.Join(s.result().Instances, ", "), errs.Conflict)
	}
	for j, err := range tx.JobsIn(catalog.JobQueued, catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted) {
		if err != nil {
			return nil, err
		}
		source := j.SnapshotID
		if j.Restore != nil {
			source = j.Restore.Snapshot
		}
		if slices.ContainsFunc(s.instances, func(i catalog.Instance) bool { return i.ID == j.Instance }) || slices.Contains(s.snapshots, source) {
			return nil, fmt.Errorf("job %s of %s has not ended; cancel it first: %w", j.ID.Short(), j.InstanceName, errs.Conflict)
		}
	}
	return s, s.held(tx)
}

// held refuses while somebody keeps one of the snapshots.
func (s *scope) held(tx *catalog.Tx) error {
	for _, id := range s.snapshots {
		x, err := tx.Snapshot(id)
		if err != nil {
			return err
		}
		if x.Hold.Active(time.Now()) {
			return fmt.Errorf("snapshot %s of %s is held until %s by %s (%s); release it first: %w", id.Short(), x.InstanceName, x.Hold.Until.UTC().Format(time.RFC3339), x.Hold.By, x.Hold.Reason, errs.Conflict)
		}
	}
	return nil
}

// record writes all of it: see Service.Erase.
func (s *scope) record(tx *catalog.Tx, fresh map[seal.DomainID]seal.DomainID, by By) error {
	counts, now := map[seal.DomainID]int64{}, time.Now()
	for _, id := range s.snapshots {
		x, err := tx.Snapshot(id)
		if err != nil {
			return err
		}
		counts[x.Domain]++
		if err := errors.Join(tx.DeleteSnapshot(id), tx.PermitDelete(now, repo.SnapshotObject(x.Instance, id))); err != nil {
			return err
		}
	}
	clusters, err := tx.ClustersIn(s.domains...)
	if err != nil {
		return err
	}
	for _, c := range clusters { // also those that nobody is in any more
		c.Domain = fresh[c.Domain]
		if err := tx.PutCluster(c); err != nil {
			return err
		}
	}
	var ids []repo.InstanceID
	for _, i := range s.instances {
		ids = append(ids, i.ID)
		if to, ok := fresh[i.Domain]; ok {
			i.Domain = to
		}
		if to, ok := fresh[i.OwnDomain]; ok {
			i.OwnDomain = to
		}
		if err := tx.PutInstance(i); err != nil {
			return err
		}
	}
	for _, id := range s.domains {
		err := errors.Join(tx.PutErasure(catalog.Erasure{Domain: id, Instances: ids, Began: now, By: by.Actor, Snapshots: counts[id]}), tx.DropPruning(id),
			tx.PermitDelete(now, repo.DomainPrefix(id), repo.IndexPrefix(id), repo.PackPrefix(id)))
		if err != nil {
			return err
		}
	}
	return nil
}
