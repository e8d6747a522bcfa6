package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Bounds of the manifests kept in memory: a person looks at one snapshot page
// by page, so few are enough. A table takes roughly a kilobyte.
const (
	maxManifests      = 4
	maxManifestTables = 200_000
	// maxReads bounds manifests that are being read at once; each may take
	// repo.MaxSnapshotBytes and more while it is.
	maxReads = 2
)

// manifestCache keeps the manifests read last. A manifest never changes.
type manifestCache struct {
	from  Manifests
	reads chan struct{} // one place a read

	mu   sync.Mutex
	kept []manifest // the one used last is last
}

type manifest struct {
	id      repo.JobID
	content *repo.Content
	tables  int
}

func newManifestCache(from Manifests) *manifestCache {
	return &manifestCache{from: from, reads: make(chan struct{}, maxReads)}
}

// content gives a snapshot's manifest, which the caller must not change. Two
// callers at once may read the same one twice; that costs less than a lock held
// over I/O.
func (c *manifestCache) content(ctx context.Context, s catalog.Snapshot) (*repo.Content, error) {
	c.mu.Lock()
	for i, m := range c.kept {
		if m.id == s.ID {
			c.kept = append(slices.Delete(c.kept, i, i+1), m)
			c.mu.Unlock()
			return m.content, nil
		}
	}
	c.mu.Unlock()
	select {
	case c.reads <- struct{}{}:
		defer func() { <-c.reads }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	content, err := c.from.Content(ctx, s)
	if err != nil {
		return nil, err
	}
	c.keep(manifest{s.ID, content, countTables(content)})
	return content, nil
}

// keep adds a manifest and drops the oldest ones beyond the bounds.
func (c *manifestCache) keep(m manifest) {
	if m.tables > maxManifestTables {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = append(slices.DeleteFunc(c.kept, func(k manifest) bool { return k.id == m.id }), m)
	tables := 0
	for _, k := range c.kept {
		tables += k.tables
	}
	for len(c.kept) > maxManifests || tables > maxManifestTables {
		tables -= c.kept[0].tables
		c.kept = slices.Delete(c.kept, 0, 1)
	}
}

func countTables(c *repo.Content) int {
	n := 0
	if c.Logical != nil {
		for _, d := range c.Logical.Databases {
			n += len(d.Tables)
		}
	}
	return n
}

// repositoryManifests reads manifests from a repository.
type repositoryManifests struct{ repository *repo.Repository }

// NewManifests gives the manifests of a repository.
func NewManifests(r *repo.Repository) Manifests { return repositoryManifests{r} }

// Content reads the snapshot's object, checks that it is the one the catalog
// knows, and opens its content part.
func (m repositoryManifests) Content(ctx context.Context, s catalog.Snapshot) (*repo.Content, error) {
	object, raw, err := m.repository.ReadSnapshotObject(ctx, s.Instance, s.ID)
	if err != nil {
		return nil, err
	}
	if s.ObjectHash != ([32]byte{}) && sha256.Sum256(raw) != s.ObjectHash {
		return nil, fmt.Errorf("%s: differs from the hash in the catalog: %w", repo.SnapshotObject(s.Instance, s.ID), errs.Corrupt)
	}
	domain, err := m.repository.Domain(ctx, s.Domain)
	if err != nil {
		return nil, err
	}
	references, err := object.OpenReferences(domain.Keys().Refs())
	if err != nil {
		return nil, err
	}
	return object.OpenContent(domain.Keys().Seal(object.Header.SealEpoch), references)
}
