package export_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// records counts the records of the log in the store.
func (w *world) records() (logs, fulls int) {
	w.t.Helper()
	w.must(w.store.List(w.t.Context(), repo.CatalogPrefix, "", func(info blob.Info) error {
		_, full, err := repo.ParseCatalogObject(info.Key)
		if full {
			fulls++
		} else {
			logs++
		}
		return err
	}))
	return logs, fulls
}

func TestAFullRecordComesEachDayOnWhichSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		for day, want := range []int{1, 2, 3} {
			for n := range 3 {
				w.must(w.put(catalog.Sync, fmt.Sprintf("%d/%d", day, n)))
				time.Sleep(6 * time.Hour)
			}
			if _, fulls := w.records(); fulls != want {
				t.Errorf("day %d: %d full records", day, fulls)
			}
			time.Sleep(8 * time.Hour)
		}
		time.Sleep(2 * 24 * time.Hour) // quiet days need none
		if logs, fulls := w.records(); logs != 9 || fulls != 3 {
			t.Errorf("%d records, %d full ones", logs, fulls)
		}
		w.must(w.stop())
	})
}

func TestOldRecordsStayWhileDeletionIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.must(w.catalog.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
			_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
			return err
		}))
		days := func(n int) {
			for range n {
				w.must(w.put(catalog.Sync, fmt.Sprint(time.Now().Unix())))
				time.Sleep(25 * time.Hour)
			}
		}
		days(4)
		time.Sleep(40 * 24 * time.Hour)
		days(1)
		if logs, fulls := w.records(); logs != 6 || fulls != 5 {
			t.Errorf("paused: %d records, %d full ones", logs, fulls)
		}
		w.must(w.catalog.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("operator/admin"); return err }))
		days(2)
		if logs, fulls := w.records(); logs != 4 || fulls != 4 {
			t.Errorf("resumed: %d records, %d full ones", logs, fulls)
		}
		// What is left says everything.
		n := 0
		head, err := w.repository.ReplayLog(t.Context(), func(*repo.LogRecord) error { n++; return nil })
		if err != nil || n == 0 || head.Number != w.catalog.Head().Number {
			t.Errorf("%d records replayed up to %s, %v", n, head, err)
		}
		w.must(w.stop())
	})
}

func TestAControllerWithNothingToWriteNoticesThatItWasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		w.must(w.put(catalog.Sync, "mine"))
		time.Sleep(time.Hour)
		_, err := w.repository.ClaimEpoch(t.Context())
		w.must(err)
		start := time.Now()
		if err := <-w.ended; errs.KindOf(err) != errs.Conflict {
			t.Errorf("the exporter: %v", err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("it took %s", took)
		}
		if err := w.put(catalog.Local, "late"); errs.KindOf(err) != errs.Conflict {
			t.Errorf("who comes later: %v", err)
		}
		w.cancel()
	})
}
