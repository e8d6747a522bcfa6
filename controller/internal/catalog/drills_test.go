package catalog_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestTheNewestDrillsAreKeptAndTheLastThatPassed(t *testing.T) {
	c := create(t)
	snapshot, other := repo.NewID(), repo.NewID()
	put := func(snapshot repo.JobID, n int, verdict string) repo.JobID {
		id := repo.NewID()
		update(t, c, func(tx *catalog.Tx) error {
			return tx.PutDrill(catalog.Drill{Snapshot: snapshot, Job: id, Verdict: verdict, Received: time.Unix(int64(n), 0)},
				catalog.DrillReport{Statement: fmt.Append(nil, n)})
		})
		return id
	}
	earlier, last := put(snapshot, 1, "passed"), put(snapshot, 2, "passed")
	put(other, 3, "failed")
	for n := range catalog.MaxDrills + 5 {
		put(snapshot, 10+n, "failed")
	}
	view(t, c, func(tx *catalog.Tx) error {
		all, err := tx.Drills(snapshot)
		if err != nil || len(all) != catalog.MaxDrills+1 || all[0].Received.Unix() != int64(10+catalog.MaxDrills+4) || all[len(all)-1].Job != last {
			t.Errorf("%d drills, %v: %+v", len(all), err, all)
		}
		if _, err := tx.DrillReport(snapshot, last); err != nil {
			t.Error(err)
		}
		if _, err := tx.DrillReport(snapshot, earlier); err == nil {
			t.Error("the report of a dropped drill is still there")
		}
		if all, err := tx.Drills(other); err != nil || len(all) != 1 {
			t.Errorf("of the other snapshot %v, %v", all, err)
		}
		return nil
	})
}

func TestACatalogOfTheFirstSchemaTakesDrills(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	writeV1(t, path)
	c, err := catalog.Open(t.Context(), path, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	update(t, c, func(tx *catalog.Tx) error {
		return tx.PutDrill(catalog.Drill{Snapshot: repo.NewID(), Job: repo.NewID(), Verdict: "passed"}, catalog.DrillReport{Statement: []byte("x")})
	})
}
