package fleet

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// storeInventory keeps what the agent reported. A failure does not end the
// session, since work can go on without: it is tried again by retryInventory.
func (s *session) storeInventory(ctx context.Context, inv *Inventory) {
	err := s.tryInventory(ctx, inv)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
	if err != nil {
		s.pending = inv
	}
	if err != nil && !errors.Is(err, errOverBudget) {
		s.log.Warn("inventory not stored, will try again", zap.Error(err))
	}
}

// errOverBudget is why an inventory waits that came too soon after others.
var errOverBudget = fmt.Errorf("inventories come faster than they are written: %w", errs.Busy)

// retryInventory tries again what could not be stored.
func (s *session) retryInventory(ctx context.Context) {
	s.mu.Lock()
	inv := s.pending
	s.mu.Unlock()
	if inv == nil {
		return
	}
	err := s.tryInventory(ctx, inv)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.pending == inv {
		s.pending = nil
	}
}

// tryInventory writes an inventory, in this order:
//
//  1. A domain is made in the store for each instance never seen before. A
//     crash after it leaves domains without data that nothing names.
//  2. One catalog transaction writes new instances, bound to the agent and to
//     their domains, and what changed of known ones.
//
// The instance is found under (agent, name within the agent) and nothing else:
// a system identifier, whoever claims it, selects nothing.
func (s *session) tryInventory(ctx context.Context, inv *Inventory) error {
	var notes []string
	host := boundHost(inv.Host, &notes)
	instances, refused := boundInstances(inv.Instances, &notes)
	if len(refused) > 0 {
		notes = append(notes, "instances left out, their names are not usable: "+strings.Join(refused, ", "))
	}
	instances, missing, err := s.known(ctx, instances, &notes)
	if err != nil {
		return err
	}
	changed, err := s.changes(ctx, host, instances)
	if err != nil || !changed {
		return err
	}
	if !s.hub.spend(s.peer.Agent, weight(host, instances)) {
		return errOverBudget
	}
	domains, err := s.makeDomains(ctx, missing)
	if err != nil {
		return err
	}
	class := catalog.Async
	if len(domains) > 0 {
		class = catalog.Sync // which domain is an instance's must never be forgotten
	}
	return s.hub.deps.Catalog.Update(ctx, class, func(tx *catalog.Tx) error {
		if err := tx.PutInventory(s.peer.Agent, host); err != nil {
			return err
		}
		for _, i := range instances {
			if err := s.putInstance(tx, i, domains[i.Name]); err != nil {
				return err
			}
		}
		if len(notes) > 0 {
			return s.audit(tx, "inventory.shorten", "agent "+s.peer.Name, strings.Join(notes, "; "))
		}
		return nil
	})
}

// boundInstances shortens the list, and leaves out instances whose names cannot
// be used, or that are named twice.
func boundInstances(list []NamedInstance, notes *[]string) (kept []NamedInstance, refused []string) {
	seen := make(map[string]bool)
	for _, i := range cut(list, maxInstances, "instances", notes) {
		if !catalog.ValidName(i.Name) || seen[i.Name] {
			refused = append(refused, fmt.Sprintf("%q", clip(i.Name, 63)))
			continue
		}
		seen[i.Name] = true
		kept = append(kept, NamedInstance{i.Name, boundInstance(i.InstanceInventory, notes)})
	}
	return kept, refused
}

// known leaves out new instances beyond maxKnown, and names those of the rest
// that have no record yet. An agent that reports new names each time would make
// domains without end.
func (s *session) known(ctx context.Context, instances []NamedInstance, notes *[]string) (kept []NamedInstance, missing []string, err error) {
	err = s.hub.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.InstancesOf(s.peer.Name)
		if err != nil {
			return err
		}
		names := make(map[string]bool, len(all))
		for _, i := range all {
			names[i.Name] = true
		}
		kept, missing = nil, nil
		for _, i := range instances {
			if !names[i.Name] {
				if len(all)+len(missing) >= maxKnown {
					continue
				}
				missing = append(missing, i.Name)
			}
			kept = append(kept, i)
		}
		return nil
	})
	if left := len(instances) - len(kept); left > 0 && err == nil {
		*notes = append(*notes, fmt.Sprintf("too many instances, at most %d names are ever taken: %d left out", maxKnown, left))
	}
	return kept, missing, err
}

// makeDomains makes a domain for each instance that has no record yet.
func (s *session) makeDomains(ctx context.Context, missing []string) (map[string]seal.DomainID, error) {
	domains := make(map[string]seal.DomainID, len(missing))
	for _, name := range missing {
		d, err := s.hub.deps.Keys.NewDomain(ctx)
		if err != nil {
			return nil, fmt.Errorf("make domain of instance %s/%s: %w", s.peer.Name, name, err)
		}
		domains[name] = d
	}
	return domains, nil
}

// changes tells whether anything but times and free disk differs from what is
// kept: an agent that comes back every minute must not write every minute.
func (s *session) changes(ctx context.Context, host catalog.Inventory, instances []NamedInstance) (changed bool, err error) {
	err = s.hub.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		old, err := tx.Inventory(s.peer.Agent)
		if errors.Is(err, errs.NotFound) {
			changed = true
			return nil
		} else if err != nil {
			return err
		}
		// Empty lists are nil on both sides: bound… makes them so, the catalog reads them so.
		fresh := old.Taken.Sub(host.Taken).Abs() < 10*time.Minute
		old.Taken, old.FreeDiskBytes, old.Drill.FreeDiskBytes = host.Taken, host.FreeDiskBytes, host.Drill.FreeDiskBytes
		changed = !fresh || !reflect.DeepEqual(old, host)
		for _, i := range instances {
			known, err := tx.InstanceByName(s.peer.Name, i.Name)
			if err != nil || !reflect.DeepEqual(known.Inventory, i.InstanceInventory) {
				changed = true
			}
		}
		return nil
	})
	return changed, err
}

// putInstance writes one instance. domain is the one just made, if the instance was new.
func (s *session) putInstance(tx *catalog.Tx, i NamedInstance, domain seal.DomainID) error {
	at := time.Now()
	known, err := tx.InstanceByName(s.peer.Name, i.Name)
	switch {
	case errors.Is(err, errs.NotFound) && domain != seal.DomainID{}:
		known = catalog.Instance{ID: repo.NewID(), Agent: s.peer.Agent, AgentName: s.peer.Name, Name: i.Name,
			Domain: domain, OwnDomain: domain, Incarnation: 1, FirstSeen: at}
		if err := s.audit(tx, "instance.create", "instance "+known.FullName(), "domain "+fmt.Sprintf("%x", domain[:])); err != nil {
			return err
		}
	case err != nil:
		return err
	case known.Agent != s.peer.Agent:
		// A name belongs to one agent for ever, so this is damage, not an attack.
		return fmt.Errorf("instance %s belongs to another agent: %w", known.FullName(), errs.Corrupt)
	}
	if claimed := i.SystemIdentifier; claimed != 0 {
		if known.SystemIdentifier != 0 && known.SystemIdentifier != claimed {
			known.Incarnation++
			detail := fmt.Sprintf("system identifier %d, was %d: incarnation %d", claimed, known.SystemIdentifier, known.Incarnation)
			if err := s.audit(tx, "instance.incarnation", "instance "+known.FullName(), detail); err != nil {
				return err
			}
			s.log.Warn("system identifier of an instance has changed", zap.String("instance", known.FullName()), zap.Uint32("incarnation", known.Incarnation))
		}
		known.SystemIdentifier = claimed
	}
	known.LastSeen = at
	known.Inventory = i.InstanceInventory
	return tx.PutInstance(known)
}

func (s *session) audit(tx *catalog.Tx, action, object, detail string) error {
	return s.hub.deps.Trail.Append(tx, catalog.AuditRecord{Actor: "agent/" + s.peer.Name, Address: s.peer.Address,
		Action: action, Object: object, Outcome: "ok", Detail: detail})
}
