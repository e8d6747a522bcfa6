package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Instance gives the instance with this id.
func (tx *Tx) Instance(id repo.InstanceID) (Instance, error) {
	return get(tx, bucketInstances, id[:], "instance "+id.String(), fromInstance)
}

// InstanceByName gives the instance of this name that the agent of this name has.
func (tx *Tx) InstanceByName(agent, name string) (Instance, error) {
	return tx.instanceNamed(agent + "/" + name)
}

func (tx *Tx) instanceNamed(full string) (Instance, error) {
	id := tx.bucket(indexInstanceNames).Get([]byte(full))
	if id == nil {
		return Instance{}, fmt.Errorf("instance %q: %w", full, errs.NotFound)
	}
	return get(tx, bucketInstances, id, "instance "+full, fromInstance)
}

// FindInstance gives the instance called "AGENT/INSTANCE", by the last part
// alone where that is unique, by id or by a unique prefix of an id.
func (tx *Tx) FindInstance(ref string) (Instance, error) {
	if strings.Contains(ref, "/") {
		return tx.instanceNamed(ref)
	}
	i, err := tx.instanceByLastPart(ref)
	if !errors.Is(err, errs.NotFound) {
		return i, err
	}
	key, err := findPrefix(tx, bucketInstances, "instance", ref, len(repo.ID{}))
	if err != nil {
		return Instance{}, err
	}
	return get(tx, bucketInstances, key, "instance "+ref, fromInstance)
}

func (tx *Tx) instanceByLastPart(name string) (Instance, error) {
	var found []byte
	var matches []string
	suffix := []byte("/" + name)
	c := tx.cursor(indexInstanceNames)
	for k, id := c.First(); k != nil && len(matches) <= maxMatches; k, id = c.Next() {
		if bytes.HasSuffix(k, suffix) {
			found, matches = id, append(matches, string(k))
		}
	}
	switch len(matches) {
	case 0:
		return Instance{}, fmt.Errorf("instance %q: %w", name, errs.NotFound)
	case 1:
		return get(tx, bucketInstances, found, "instance "+name, fromInstance)
	}
	return Instance{}, ambiguous("instance", name, matches)
}

// PutInstance writes an instance. A name that another instance of the agent has
// is Exists; id, agent and name of an instance never change, and so which keys
// its data is under is never a matter of what somebody calls it.
func (tx *Tx) PutInstance(i Instance) error {
	if i.ID.IsZero() || i.Agent.IsZero() || i.Name == "" || i.AgentName == "" {
		return fmt.Errorf("instance %q: without id, agent or name: %w", i.FullName(), errs.Invalid)
	}
	if id := tx.bucket(indexInstanceNames).Get([]byte(i.FullName())); id != nil && string(id) != string(i.ID[:]) {
		return fmt.Errorf("instance %q: %w", i.FullName(), errs.Exists)
	}
	old, err := tx.Instance(i.ID)
	switch {
	case errors.Is(err, errs.NotFound):
		if err := tx.index(indexInstanceNames, []byte(i.FullName()), i.ID[:]); err != nil {
			return err
		}
	case err != nil:
		return err
	case old.FullName() != i.FullName() || old.Agent != i.Agent:
		return fmt.Errorf("instance %q: cannot become %q: %w", old.FullName(), i.FullName(), errs.Invalid)
	}
	return tx.put(bucketInstances, i.ID[:], toInstance(i))
}

// InstancesOf gives all instances of the agent of this name.
func (tx *Tx) InstancesOf(agentName string) ([]Instance, error) {
	prefix := []byte(agentName + "/")
	var out []Instance
	c := tx.cursor(indexInstanceNames)
	for k, id := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, id = c.Next() {
		i, err := get(tx, bucketInstances, id, "instance "+string(k), fromInstance)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// Instances lists instances by full name.
func (tx *Tx) Instances(page Page, keep func(Instance) bool) ([]Instance, string, error) {
	return list(tx, indexInstanceNames, nil, page, func(name, id []byte) (Instance, error) {
		return get(tx, bucketInstances, id, "instance "+string(name), fromInstance)
	}, keep)
}

// Cluster gives the cluster of this name.
func (tx *Tx) Cluster(name string) (Cluster, error) {
	return get(tx, bucketClusters, []byte(name), fmt.Sprintf("cluster %q", name), fromCluster)
}

// PutCluster writes a cluster.
func (tx *Tx) PutCluster(c Cluster) error {
	if c.Name == "" {
		return fmt.Errorf("cluster without a name: %w", errs.Invalid)
	}
	return tx.put(bucketClusters, []byte(c.Name), toCluster(c))
}

// DeleteCluster removes a cluster; one that does not exist is NotFound.
func (tx *Tx) DeleteCluster(name string) error {
	if _, err := tx.Cluster(name); err != nil {
		return err
	}
	return tx.delete(bucketClusters, []byte(name))
}
