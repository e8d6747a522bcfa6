package controller_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

// unlocked gives the configuration with the secret that init made.
func unlocked(t *testing.T, c controller.Config) controller.Config {
	t.Helper()
	var err error
	if c.Unlock, err = config.ParseSecret("file:" + filepath.Join(c.StateDir, "unlock.key")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestANewAdminContextTakesTheOldOnesPlace(t *testing.T) {
	c := unlocked(t, initialized(t))
	path := filepath.Join(c.StateDir, "admin-context.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	made, err := controller.AdminContext(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if made.Operator != controller.FirstOperator || made.Context != path || made.Kept != path+".old" || made.Expires.IsZero() {
		t.Errorf("made %+v", made)
	}
	if kept, err := os.ReadFile(made.Kept); err != nil || !bytes.Equal(kept, before) {
		t.Errorf("the old file: %d bytes, %v", len(kept), err)
	}
	address, stop := start(t, c)
	status(t, c, address)
	old, err := access.Load(made.Kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := whoAmI(t, &old.Contexts[0], address); errs.KindOf(err) != errs.Denied {
		t.Errorf("with the certificate before: %v", err)
	}
	if _, err := controller.AdminContext(t.Context(), c); errs.KindOf(err) != errs.Busy {
		t.Errorf("while the controller runs: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// whoAmI asks the controller with a context.
func whoAmI(t *testing.T, entry *access.Context, address string) error {
	t.Helper()
	id, err := pki.ParseIdentity(entry.Identity())
	if err != nil {
		t.Fatal(err)
	}
	tls, err := id.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(address, tls)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = call(t, conn, "WhoAmI")
	return err
}

func TestANewAdminContextKeepsTheAddressAndNeedsNoOldFile(t *testing.T) {
	c := unlocked(t, initialized(t))
	path := filepath.Join(c.StateDir, "admin-context.yaml")
	mended, err := access.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	mended.Contexts[0].Address = "backup1.example:7443"
	if err := mended.Save(path); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"backup1.example:7443", c.Listen} {
		made, err := controller.AdminContext(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		f, err := access.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if entry, err := f.Get(""); err != nil || entry.Address != want {
			t.Errorf("address %q, want %q (%v)", entry.Address, want, err)
		}
		if kept := want != c.Listen; kept != (made.Kept != "") {
			t.Errorf("kept %q", made.Kept)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAdminContextIsRefusedWithoutTheSecretAndAfterATakeOver(t *testing.T) {
	c, other := initialized(t), initialized(t)
	before := snapshot(t, c.StateDir)
	wrong := c
	wrong.Unlock = unlocked(t, other).Unlock
	if _, err := controller.AdminContext(t.Context(), wrong); errs.KindOf(err) != errs.Denied {
		t.Errorf("with another secret: %v", err)
	}
	c = unlocked(t, c)
	takeOver(t, c)
	if _, err := controller.AdminContext(t.Context(), c); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "taken the store over") {
		t.Errorf("after a take-over: %v", err)
	}
	if after := snapshot(t, c.StateDir); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

func TestAnAdminContextIsAuditedAndARevokedAdminGetsNone(t *testing.T) {
	c := unlocked(t, initialized(t))
	if _, err := controller.AdminContext(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(t.Context(), filepath.Join(c.StateDir, "catalog.db"), catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	err = cat.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error {
		records, _, err := tx.Audit(catalog.Page{Size: catalog.MaxPage})
		if n := len(records); n != 1 || records[0].Action != "operator.admin-context" || records[0].Object != "operator admin" || records[0].Outcome != "ok" {
			t.Errorf("audit %+v", records)
		}
		o, err2 := tx.Operator(controller.FirstOperator)
		if len(o.Certificates) != 1 || o.Role != catalog.RoleAdmin {
			t.Errorf("operator %+v", o)
		}
		o.Revoked = time.Now()
		return errors.Join(err, err2, tx.PutOperator(o))
	})
	if err := errors.Join(err, cat.Close()); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, c.StateDir)
	if _, err := controller.AdminContext(t.Context(), c); errs.KindOf(err) != errs.Denied || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("for a revoked admin: %v", err)
	}
	if after := snapshot(t, c.StateDir); strings.Count(after, "\n") != strings.Count(before, "\n") {
		t.Errorf("files changed:\n%s\n%s", before, after)
	}
}
