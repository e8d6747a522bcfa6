package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestAnAdminAloneResumesDeletionAndTheTrailSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if err := w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
			_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "the catalog was made again", Since: time.Now()})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		operator := tuskvaultv1.NewDeletionServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		if r, err := operator.GetDeletion(t.Context(), &tuskvaultv1.GetDeletionRequest{}); err != nil || len(r.GetPauses()) != 1 || r.GetPauses()[0].GetKind() != "rebuild" {
			t.Errorf("pauses %v, %v", r, err)
		}
		if _, err := operator.ResumeDeletion(t.Context(), &tuskvaultv1.ResumeDeletionRequest{}); errs.KindOf(err) != errs.Denied {
			t.Errorf("an operator resumes: %v", err)
		}
		admin := tuskvaultv1.NewDeletionServiceClient(w.dial(w.operator("a", catalog.RoleAdmin).cert))
		if r, err := admin.ResumeDeletion(t.Context(), &tuskvaultv1.ResumeDeletionRequest{}); err != nil || len(r.GetPauses()) != 1 {
			t.Errorf("an admin resumes: %v, %v", r, err)
		}
		if r, err := operator.GetDeletion(t.Context(), &tuskvaultv1.GetDeletionRequest{}); err != nil || len(r.GetPauses()) != 0 {
			t.Errorf("pauses %v, %v", r, err)
		}
		if err := w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			all, _, err := tx.Audit(catalog.Page{})
			if last := all[len(all)-1]; last.Actor != "operator/a" || last.Action != "deletion.resume" || last.Detail != "the catalog was made again" {
				t.Errorf("audit %+v", last)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}
