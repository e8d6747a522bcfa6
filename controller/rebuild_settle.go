package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// settle is the transaction that ends what was the old controller's alone.
func (b *rebuilding) settle(ctx context.Context, cat *catalog.Catalog, made *newOperator) error {
	trail := audit.New(cat, zap.NewNop())
	return cat.Update(ctx, catalog.Sync, func(tx *catalog.Tx) (err error) {
		if err := b.pause(tx); err != nil {
			return err
		}
		if b.out.Tokens, err = voidTokens(tx, b.now); err != nil {
			return err
		}
		if b.out.Operators, err = b.voidOperators(tx); err != nil {
			return err
		}
		if err := b.readmit(tx, made); err != nil {
			return err
		}
		if err := b.settleJobs(tx); err != nil {
			return err
		}
		return trail.Append(tx, catalog.AuditRecord{Actor: "controller", Action: "controller.rebuild", Object: "repository " + b.repository.ID().String(), Outcome: audit.OK,
			Detail: fmt.Sprintf("by user %d, epoch %d, log read up to record %d with %d faults; certificate of %s %s; %d operators and %d tokens void",
				os.Getuid(), b.out.Epoch, b.out.Log.Head.Number, len(b.out.Log.Faults), made.name, pki.Fingerprint(made.certificate.Fingerprint), b.out.Operators, b.out.Tokens)})
	})
}

// pause pauses deletion: what the log did not say may be needed still.
func (b *rebuilding) pause(tx *catalog.Tx) error {
	_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Since: b.now,
		Reason: fmt.Sprintf("the catalog was made again from the store at %s", b.now.UTC().Format(time.RFC3339))})
	if err != nil || len(b.out.Log.Faults) == 0 {
		return err
	}
	_, err = tx.Pause(catalog.Pause{Kind: catalog.PauseLogDamaged, Since: b.now,
		Reason: fmt.Sprintf("the catalog log was damaged when it was read (%s): changes may be missing", plural(len(b.out.Log.Faults), "fault"))})
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// voidTokens ends every join token that could still be used.
func voidTokens(tx *catalog.Tx, at time.Time) (voided int, err error) {
	var open []catalog.Token
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := tx.Tokens(page, func(t catalog.Token) bool { return t.Used.IsZero() && at.Before(t.Expires) })
		if err != nil {
			return 0, err
		}
		if open = append(open, rows...); next == "" {
			break
		}
		page.Token = next
	}
	for _, t := range open {
		t.Expires = at
		if err := tx.PutToken(t); err != nil {
			return 0, err
		}
	}
	return len(open), nil
}

// voidOperators takes all rights from everybody but the first admin, who gets
// them anew.
func (b *rebuilding) voidOperators(tx *catalog.Tx) (voided int, err error) {
	if b.options.KeepOperators {
		return 0, nil
	}
	var all []catalog.Operator
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := tx.Operators(page)
		if err != nil {
			return 0, err
		}
		if all = append(all, rows...); next == "" {
			break
		}
		page.Token = next
	}
	for _, o := range all {
		if o.Name == FirstOperator || !o.Revoked.IsZero() {
			continue
		}
		o.Revoked, o.Certificates = b.now, nil
		if err := tx.PutOperator(o); err != nil {
			return voided, err
		}
		voided++
	}
	return voided, nil
}

// readmit gives the first admin a new certificate, and the role again. Those
// before it are void, unless operators are kept.
func (b *rebuilding) readmit(tx *catalog.Tx, made *newOperator) error {
	o, err := tx.Operator(made.name)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	if errors.Is(err, errs.NotFound) {
		o = catalog.Operator{Name: made.name, Created: b.now, CreatedBy: "rebuild"}
	}
	if !b.options.KeepOperators || !o.Revoked.IsZero() {
		o.Certificates = nil
	}
	o.Role, o.Revoked = catalog.RoleAdmin, time.Time{}
	o.Certificates = append(o.Certificates, made.certificate)
	if extra := len(o.Certificates) - catalog.MaxCertificates; extra > 0 {
		o.Certificates = o.Certificates[extra:]
	}
	return tx.PutOperator(o)
}

// settleJobs decides about jobs that the log does not know to have ended. It may
// be some seconds behind, and the rebuild may come days later.
//
// A backup goes on, or is tried again: that harms nothing. An attempt of it may
// have tried to make its snapshot exist, whatever the log says, and a put of the
// old controller may still be on its way. Anything else ends as lost: a restore
// that was done before the controller was lost must not be done again, over what
// was written since.
func (b *rebuilding) settleJobs(tx *catalog.Tx) error {
	for j, err := range tx.JobsIn(catalog.JobQueued, catalog.JobLeased, catalog.JobRunning, catalog.JobCommitting, catalog.JobCommitted) {
		if err != nil {
			return err
		}
		switch {
		case j.Kind != catalog.JobBackup:
			if err := b.loseJob(tx, j); err != nil {
				return err
			}
		case j.Current != (repo.Fence{}) && j.State != catalog.JobCommitted && !j.Doubt:
			j.Doubt = true
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
	}
	return nil
}

// loseJob ends a job, and its live attempt, as lost.
func (b *rebuilding) loseJob(tx *catalog.Tx, j catalog.Job) error {
	const why = "the controller was lost while it was under way, and how far it came is not known: look at what it was to change, and ask for it again if need be"
	a, err := tx.Attempt(j.ID, j.Current)
	if err == nil && !a.State.Ended() {
		a.State, a.Ended, a.Error = catalog.AttemptLost, b.now, "the controller was lost"
		err = tx.PutAttempt(a)
	}
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	j.State, j.Ended, j.Message, j.Ending, j.NextAttempt = catalog.JobLost, b.now, why, 0, time.Time{}
	return tx.PutJob(j)
}

// witnessRecord gives a position in the log in the catalog's words.
func witnessRecord(w repo.Witness, seen time.Time) catalog.Witness {
	return catalog.Witness{Repository: w.Repository, Epoch: w.Epoch, Number: w.Number, Hash: w.Hash, Seen: seen}
}
