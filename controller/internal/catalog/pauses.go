package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// MayDelete is the one place that whoever deletes anything from the store must
// ask, in the transaction that records what will be deleted: errs.Conflict, with
// the reasons, while a person has yet to decide.
func (tx *Tx) MayDelete() error {
	open, err := tx.OpenPauses()
	if err != nil || len(open) == 0 {
		return err
	}
	return fmt.Errorf("deletion is paused: %s: %w", Reasons(open), errs.Conflict)
}

// OpenPauses gives the reasons that nobody has decided about.
func (tx *Tx) OpenPauses() ([]Pause, error) {
	all, err := tx.Pauses()
	return slices.DeleteFunc(all, func(p Pause) bool { return !p.Resumed.IsZero() }), err
}

// Reasons gives some pauses in one line: the first few, and how many more.
func Reasons(pauses []Pause) string {
	var why []string
	for _, p := range pauses[:min(len(pauses), maxMatches)] {
		why = append(why, p.Reason)
	}
	if more := len(pauses) - len(why); more > 0 {
		why = append(why, fmt.Sprintf("%d more reasons", more))
	}
	return strings.Join(why, "; ")
}

// Pauses gives every reason for which deletion was ever paused, by kind, those
// that a person has decided about too. There is at most one of a kind and subject.
func (tx *Tx) Pauses() ([]Pause, error) {
	var out []Pause
	c := tx.cursor(bucketPauses)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		p, err := decode(bucketPauses, k, v, fromPause)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (p Pause) key() []byte { return []byte(string(p.Kind) + "/" + p.Subject) }

// Pause pauses deletion. It tells whether that was news: a witness that is not
// newer than one a person has decided about, or that is known, is none.
func (tx *Tx) Pause(p Pause) (news bool, err error) {
	if p.Kind == "" || p.Reason == "" || p.Since.IsZero() {
		return false, fmt.Errorf("pause deletion: without kind, reason or time: %w", errs.Invalid)
	}
	old, err := get(tx, bucketPauses, p.key(), "pause "+string(p.Kind), fromPause)
	switch {
	case err == nil && p.Witness != (Witness{}) && !p.Witness.Beyond(old.Witness):
		return false, nil
	case err != nil && !errors.Is(err, errs.NotFound):
		return false, err
	}
	p.Resumed, p.ResumedBy = time.Time{}, ""
	return true, tx.put(bucketPauses, p.key(), toPause(p))
}

// ResumeDeletion notes that a person has decided about every reason there is,
// and gives those that were decided about now.
func (tx *Tx) ResumeDeletion(by string) ([]Pause, error) {
	pauses, err := tx.Pauses()
	if err != nil {
		return nil, err
	}
	var decided []Pause
	for _, p := range pauses {
		if !p.Resumed.IsZero() {
			continue
		}
		p.Resumed, p.ResumedBy = now(), by
		if err := tx.put(bucketPauses, p.key(), toPause(p)); err != nil {
			return nil, err
		}
		decided = append(decided, p)
	}
	return decided, nil
}

// Beyond tells whether w is a later record than o, or another one in its place.
func (w Witness) Beyond(o Witness) bool {
	if w.Epoch != o.Epoch {
		return w.Epoch > o.Epoch
	}
	return w.Number > o.Number || w.Number == o.Number && w.Hash != o.Hash
}
