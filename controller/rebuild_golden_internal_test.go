package controller

import (
	"path/filepath"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// rebuildWhole rebuilds a controller from what repotest.Whole has made, by this
// program or by one of long ago.
func rebuildWhole(t *testing.T, store blob.Store, key *seal.KeyFile) {
	t.Helper()
	r, err := repo.Open(t.Context(), store, key)
	must(t, err)
	before, err := findAuthorities(t.Context(), r, 0)
	must(t, err)
	p := &past{t: t, store: store, unlocker: key}
	c := p.config()
	out, err := p.rebuild(t.Context(), store, c, RebuildOptions{})
	must(t, err)
	if out.Epoch != 3 || out.Agents != 1 || out.Instances != repotest.WholeInstances || out.Snapshots != repotest.WholeSnapshots ||
		out.Adopted != repotest.WholeSnapshots || out.Absent != 0 || len(out.Damaged) > 0 || len(out.Log.Faults) > 0 || out.AuditFault != nil {
		t.Errorf("rebuilt %+v", out)
	}
	issuer, err := openAuthority(t.Context(), r, out.Epoch)
	must(t, err)
	if len(before.roots) != 1 || !issuer.Root().Equal(before.roots[0].Certificate()) {
		t.Error("another root: agents would not come back")
	}
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
		names, domains := map[string]int{}, map[seal.DomainID]int{}
		snapshots, _, err := tx.Snapshots(catalog.Page{Size: 100}, nil)
		for _, s := range snapshots {
			names[s.InstanceName]++
			domains[s.Domain]++
			if s.Rows == 0 || s.ObjectHash == [32]byte{} || !s.Complete {
				t.Errorf("snapshot %+v", s)
			}
		}
		if names["db1/main"] != 2 || names["db1/replica"] != 1 || names["db1/apart"] != 3 || len(domains) != 2 {
			t.Errorf("snapshots of %v in %v", names, domains)
		}
		return err
	}))
}

func TestAControllerIsRebuiltFromARepositoryWithEverything(t *testing.T) {
	store, err := dir.Create(filepath.Join(t.TempDir(), "repository"))
	must(t, err)
	_, key := repotest.Whole(t, store)
	rebuildWhole(t, store, key)
}
