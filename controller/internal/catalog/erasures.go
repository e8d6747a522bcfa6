package catalog

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Erasure gives what is known of the erasure of a domain; NotFound when nobody
// has asked for it.
func (tx *Tx) Erasure(domain seal.DomainID) (Erasure, error) {
	return get(tx, bucketErasures, domain[:], "erasure of domain "+domain.String(), fromErasure)
}

// PutErasure writes it. There is no way back: an erasure is never deleted.
func (tx *Tx) PutErasure(e Erasure) error {
	if e.Domain == (seal.DomainID{}) || e.Began.IsZero() {
		return fmt.Errorf("erasure of domain %s: without domain or time: %w", e.Domain, errs.Invalid)
	}
	return tx.put(bucketErasures, e.Domain[:], toErasure(e))
}

// Erasures gives every erasure, by domain. There are as many as people asked for.
func (tx *Tx) Erasures() iter.Seq2[Erasure, error] { return all(tx, bucketErasures, nil, fromErasure) }

// Distrust gives what is said of an agent's uploads; NotFound when nothing is.
func (tx *Tx) Distrust(agent repo.AgentID) (Distrust, error) {
	return get(tx, bucketDistrusts, agent[:], "distrust of agent "+agent.String(), fromDistrust)
}

// PutDistrust writes it.
func (tx *Tx) PutDistrust(d Distrust) error {
	if d.Agent.IsZero() || d.Since.After(d.Until) {
		return fmt.Errorf("distrust of agent %s from %s to %s: %w", d.Agent.Short(), d.Since, d.Until, errs.Invalid)
	}
	return tx.put(bucketDistrusts, d.Agent[:], toDistrust(d))
}

// Distrusts gives all of them.
func (tx *Tx) Distrusts() iter.Seq2[Distrust, error] {
	return all(tx, bucketDistrusts, nil, fromDistrust)
}

// PutDistrustedPack writes that a pack is not relied on.
func (tx *Tx) PutDistrustedPack(p DistrustedPack) error {
	return tx.put(bucketDistrusted, join(p.Domain[:], p.Pack[:]), toDistrustedPack(p))
}

// DeleteDistrustedPack forgets a pack that is gone; one that is not there is no error.
func (tx *Tx) DeleteDistrustedPack(domain seal.DomainID, pack PackID) error {
	return tx.delete(bucketDistrusted, join(domain[:], pack[:]))
}

// DistrustedPacks gives the packs of a domain that are not relied on, or those of
// all domains with none.
func (tx *Tx) DistrustedPacks(domain seal.DomainID) iter.Seq2[DistrustedPack, error] {
	var prefix []byte
	if domain != (seal.DomainID{}) {
		prefix = domain[:]
	}
	return all(tx, bucketDistrusted, prefix, fromDistrustedPack)
}

// all gives the records whose keys begin with prefix, in order. An error ends it.
func all[M any, P message[M], R any](tx *Tx, b bucket, prefix []byte, from func(*decoder, P) R) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		c := tx.cursor(b)
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			r, err := decode(b, k, v, from)
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// ClustersIn gives the clusters whose domain is one of these.
func (tx *Tx) ClustersIn(domains ...seal.DomainID) (out []Cluster, err error) {
	err = walkRecords(tx, bucketClusters, fromCluster, func(c Cluster) error {
		if slices.Contains(domains, c.Domain) {
			out = append(out, c)
		}
		return nil
	})
	return out, err
}
