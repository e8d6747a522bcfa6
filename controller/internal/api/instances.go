package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// maxSame bounds the suggestions of one answer; more clones than that say the same.
const maxSame = 20

// ListInstances lists instances by name.
func (s *fleetService) ListInstances(ctx context.Context, r *tuskvaultv1.ListInstancesRequest) (*tuskvaultv1.ListInstancesResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	selector, err := ParseSelector(r.GetSelector())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListInstancesResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		same, err := bySystemIdentifier(tx)
		if err != nil {
			return err
		}
		keep := matching(tx, selector)
		next, err := gather(page, func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, keep) },
			func(i catalog.Instance) (int, error) {
				wire, err := s.instance(tx, i, same)
				if err != nil {
					return 0, err
				}
				// The long parts are in GetInstance.
				wire.Inventory.Roles, wire.Inventory.AvailableExtensions = nil, nil
				out.Instances = append(out.Instances, wire)
				return proto.Size(wire), nil
			})
		out.Page = toPage(next)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return out, nil
}

// matching gives a filter over the labels of the instances' agents, or nil for all.
func matching(tx *catalog.Tx, selector Selector) func(catalog.Instance) bool {
	if selector.Empty() {
		return nil
	}
	return func(i catalog.Instance) bool {
		a, err := tx.Agent(i.Agent)
		return err == nil && selector.Matches(a.Labels)
	}
}

// bySystemIdentifier groups the names of all instances by what they claim. It
// only suggests: nothing is ever selected by it.
func bySystemIdentifier(tx *catalog.Tx) (map[uint64][]string, error) {
	same := make(map[uint64][]string)
	err := each(func(p catalog.Page) ([]catalog.Instance, string, error) { return tx.Instances(p, nil) },
		func(i catalog.Instance) error {
			if i.SystemIdentifier != 0 && len(same[i.SystemIdentifier]) <= maxSame {
				same[i.SystemIdentifier] = append(same[i.SystemIdentifier], i.FullName())
			}
			return nil
		})
	return same, err
}

// instance gives one instance with what stands around its record.
func (s *fleetService) instance(tx *catalog.Tx, i catalog.Instance, same map[uint64][]string) (*tuskvaultv1.Instance, error) {
	f := instanceFacts{online: s.deps.Hub.Presence(i.Agent).Online}
	a, err := tx.Agent(i.Agent)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	f.labels = a.Labels
	if f.last, err = newestComplete(tx, i.ID); err != nil {
		return nil, err
	}
	for _, name := range same[i.SystemIdentifier] {
		if name != i.FullName() && i.SystemIdentifier != 0 {
			f.same = append(f.same, name)
		}
	}
	return toInstance(i, f), nil
}

// GetInstance shows one instance.
func (s *fleetService) GetInstance(ctx context.Context, r *tuskvaultv1.GetInstanceRequest) (*tuskvaultv1.GetInstanceResponse, error) {
	out := &tuskvaultv1.GetInstanceResponse{}
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		i, err := findInstance(tx, "instance", r.GetInstance())
		if err != nil {
			return err
		}
		same, err := bySystemIdentifier(tx)
		if err != nil {
			return err
		}
		out.Instance, err = s.instance(tx, i, same)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("show instance: %w", err)
	}
	return out, nil
}

// JoinInstance puts an instance into a cluster. The cluster's domain becomes
// the instance's from the next backup on; its older snapshots stay in the
// domain they are in. In this order:
//
//  1. For a new cluster a domain is made in the store. A crash after it leaves
//     a domain without data.
//  2. One synchronous transaction names cluster and domain.
func (s *fleetService) JoinInstance(ctx context.Context, r *tuskvaultv1.JoinInstanceRequest) (*tuskvaultv1.JoinInstanceResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkName("cluster", r.GetCluster()); err != nil {
		return nil, err
	}
	fresh, err := s.clusterFor(ctx, r, c)
	if err != nil {
		return nil, fmt.Errorf("join instance: %w", err)
	}
	out := &tuskvaultv1.JoinInstanceResponse{}
	err = s.deps.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		i, err := findInstance(tx, "instance", r.GetInstance())
		if err != nil {
			return err
		}
		if i.Cluster != "" && i.Cluster != r.GetCluster() {
			return fmt.Errorf("instance %s is in cluster %s; run \"tuskctl instance leave %s\" first: %w", i.FullName(), i.Cluster, i.FullName(), errs.Conflict)
		}
		cluster, err := tx.Cluster(r.GetCluster())
		if errors.Is(err, errs.NotFound) && fresh.Name != "" {
			cluster = fresh
			err = tx.PutCluster(cluster)
		}
		if err != nil {
			return err
		}
		i.Cluster, i.Domain = cluster.Name, cluster.Domain
		return s.putMember(tx, c, i, "instance.join", "cluster "+cluster.Name, &out.Instance)
	})
	if err != nil {
		return nil, fmt.Errorf("join instance: %w", err)
	}
	return out, nil
}

// clusterFor makes the record, and the domain, of a cluster that does not exist yet.
func (s *fleetService) clusterFor(ctx context.Context, r *tuskvaultv1.JoinInstanceRequest, c Caller) (catalog.Cluster, error) {
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		// The instance first, so that a mistyped name makes no domain.
		if _, err := findInstance(tx, "instance", r.GetInstance()); err != nil {
			return err
		}
		_, err := tx.Cluster(r.GetCluster())
		if errors.Is(err, errs.NotFound) {
			return errFound
		}
		return err
	})
	if !errors.Is(err, errFound) {
		return catalog.Cluster{}, err
	}
	domain, err := s.deps.Keys.NewDomain(ctx)
	if err != nil {
		return catalog.Cluster{}, fmt.Errorf("make domain of cluster %s: %w", r.GetCluster(), err)
	}
	return catalog.Cluster{Name: r.GetCluster(), Domain: domain, Created: time.Now(), CreatedBy: c.String()}, nil
}

// LeaveInstance takes an instance out of its cluster and gives it its own domain again.
func (s *fleetService) LeaveInstance(ctx context.Context, r *tuskvaultv1.LeaveInstanceRequest) (*tuskvaultv1.LeaveInstanceResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.LeaveInstanceResponse{}
	err = s.deps.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		i, err := findInstance(tx, "instance", r.GetInstance())
		if err != nil {
			return err
		}
		if i.Cluster == "" {
			return fmt.Errorf("instance %s is in no cluster: %w", i.FullName(), errs.Conflict)
		}
		was := i.Cluster
		i.Cluster, i.Domain = "", i.OwnDomain
		return s.putMember(tx, c, i, "instance.leave", "cluster "+was, &out.Instance)
	})
	if err != nil {
		return nil, fmt.Errorf("leave cluster: %w", err)
	}
	return out, nil
}

// putMember writes a changed membership with its audit record.
func (s *fleetService) putMember(tx *catalog.Tx, c Caller, i catalog.Instance, action, detail string, out **tuskvaultv1.Instance) error {
	if err := tx.PutInstance(i); err != nil {
		return err
	}
	if err := s.deps.Trail.Append(tx, record(c, action, "instance "+i.FullName(), detail)); err != nil {
		return err
	}
	same, err := bySystemIdentifier(tx)
	if err != nil {
		return err
	}
	*out, err = s.instance(tx, i, same)
	return err
}
