package job_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// PostgreSQL speaks many languages, and a text is cut where it is too long.
func TestLongTextsInAnyLanguageAreKept(t *testing.T) {
	for shift := range 3 {
		t.Run(fmt.Sprint(shift), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.stop()
				id := w.backup()
				ref := w.running()
				long := strings.Repeat("x", shift) + strings.Repeat("語", 4000)
				w.must(w.jobs.Log(t.Context(), w.agent, ref, catalog.LogLine{Level: "warn", Message: "short"}, catalog.LogLine{Level: "warn", Message: long}))
				w.must(w.result(ref, catalog.Result{Outcome: catalog.OutcomeFailed, Error: long}))
				if j := w.is(id, catalog.JobFailed); !strings.Contains(j.Message, "語語") {
					t.Errorf("message %q", j.Message)
				}
			})
		})
	}
}

// One instance whose keys are damaged must not keep the others of its host from work.
func TestADamagedDomainHoldsUpNoOtherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		var domain seal.DomainID
		w.must(w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			i, err := tx.Instance(w.main)
			domain = i.Domain
			return err
		}))
		w.store.harm(domain)
		w.backup()
		time.Sleep(time.Second) // the older job is looked at first
		id := repo.NewID()
		_, err := w.jobs.Create(t.Context(), job.Spec{ID: id, Instance: w.other, Backup: &catalog.BackupSpec{}, By: "operator/test"})
		w.must(err)
		o, ok, err := w.jobs.Lease(t.Context(), w.agent)
		if err != nil || !ok || o.Ref.Job != id {
			t.Fatalf("leased %v %v, %v", o.Ref, ok, err)
		}
		if _, _, err := w.jobs.Lease(t.Context(), w.agent); err == nil || errs.KindOf(err) != errs.Corrupt {
			t.Fatalf("got %v, want the damage", err)
		}
	})
}
