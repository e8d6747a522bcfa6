package api_test

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// zapLevel is what tests show of the log.
const zapLevel = zap.ErrorLevel

var enrollBy = enroll.By{Actor: "operator/test"}

// openCatalog opens a catalog.
func openCatalog(t *testing.T, path string, repository repo.RepositoryID) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Create(t.Context(), path, catalog.Meta{Repository: repository, Epoch: 1, Name: "test", Created: time.Now()}, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) changeOperator(name string, fn func(*catalog.Operator)) {
	w.t.Helper()
	err := w.catalog.Update(w.t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
		o, err := tx.Operator(name)
		if err != nil {
			return err
		}
		fn(&o)
		return tx.PutOperator(o)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) revokeOperator(name string) {
	w.t.Helper()
	w.changeOperator(name, func(o *catalog.Operator) { o.Revoked = time.Now() })
}
