package audit_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open gives a catalog, a running service over it, and what stops that.
func open(t *testing.T) (*catalog.Catalog, *audit.Service, func()) {
	t.Helper()
	c, err := catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{}, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := audit.New(c, zaptest.NewLogger(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return c, s, stop
}

func records(t *testing.T, c *catalog.Catalog) (out []catalog.AuditRecord) {
	t.Helper()
	err := c.View(t.Context(), func(tx *catalog.Tx) (err error) {
		out, _, err = tx.Audit(catalog.Page{Size: catalog.MaxPage})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFloodOfRefusalsIsCountedAndNothingElseIsPushedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := open(t)
		for n := range 10_000 {
			s.Refuse(t.Context(), catalog.AuditRecord{Actor: "agent/" + fmt.Sprint(n), Action: "call.refuse", Outcome: errs.Denied.Error()})
		}
		if err := s.Record(t.Context(), catalog.AuditRecord{Actor: "operator/x", Action: "agent.revoke", Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		got := records(t, c)
		if len(got) > 40 {
			t.Errorf("%d records of 10,000 refusals", len(got))
		}
		counted, kept := false, false
		for _, r := range got {
			counted = counted || r.Action == "audit.count" && strings.Contains(r.Detail, "9970 more") && strings.Contains(r.Detail, "agent call.refuse")
			kept = kept || r.Action == "agent.revoke"
		}
		if !counted || !kept {
			t.Errorf("counted %v, the change recorded %v", counted, kept)
		}
		before := len(got)
		s.Refuse(t.Context(), catalog.AuditRecord{Action: "call.refuse", Outcome: errs.Denied.Error()})
		if got := records(t, c); len(got) != before+1 {
			t.Errorf("a minute later a refusal is not recorded by itself")
		}
	})
}

func TestCountsAreWrittenWhenTheProgramStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, stop := open(t)
		for range 35 {
			s.Refuse(t.Context(), catalog.AuditRecord{Action: "agent.enroll", Outcome: errs.Denied.Error()})
		}
		stop()
		found := false
		for _, r := range records(t, c) {
			found = found || strings.Contains(r.Detail, "5 more") && strings.Contains(r.Detail, "nobody known agent.enroll")
		}
		if !found {
			t.Error("the counts are lost")
		}
	})
}

func TestARefusalIsRecordedThoughItsCallerHasHungUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Refuse(ctx, catalog.AuditRecord{Action: "call.refuse", Outcome: errs.Denied.Error()})
		if got := records(t, c); len(got) != 1 {
			t.Errorf("%d records", len(got))
		}
	})
}

func TestWhatACallerSendsCannotMakeARecordLargeOrUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := open(t)
		huge := strings.Repeat("\x1b[31m\xff", 1<<20)
		if err := s.Record(t.Context(), catalog.AuditRecord{Actor: huge, Action: huge, Object: huge, Address: huge, Detail: huge, Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
		r := records(t, c)[0]
		for _, text := range []string{r.Actor, r.Action, r.Object, r.Address, r.Detail} {
			if len(text) > 512 || !utf8.ValidString(text) || strings.ContainsRune(text, '\x1b') {
				t.Errorf("kept %d bytes: %.60q", len(text), text)
			}
		}
	})
}

func TestAChangeThatFailsLeavesNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := open(t)
		failed := errors.New("changed my mind")
		err := c.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
			if err := s.Append(tx, catalog.AuditRecord{Action: "agent.revoke", Outcome: audit.OK}); err != nil {
				return err
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("got %v", err)
		}
		if got := records(t, c); len(got) != 0 {
			t.Errorf("%d records of a change that was not made", len(got))
		}
	})
}

func TestTheOutcomeIsOKOrTheKindOfTheFailure(t *testing.T) {
	for want, err := range map[string]error{audit.OK: nil, "denied": fmt.Errorf("x: %w", errs.Denied), "timed out": context.DeadlineExceeded, "failed": errors.New("x")} {
		if got := audit.Outcome(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
