package report

import (
	"fmt"
)

// Judge gives the verdict that follows from what is listed of a database, and
// the reason when it did not pass and none is given. It is a pure function.
//
// pg_amcheck that a host does not have costs no verdict: it is said beside it,
// see WithoutAmcheck. One that was begun and did not finish does.
func (d *Database) Judge() (Verdict, string) {
	switch {
	case d.Damaged:
		return Failed, "it could not be restored as it was"
	case d.Differing > 0:
		return Failed, fmt.Sprintf("%d tables differ from the snapshot", d.Differing)
	case d.Amcheck == AmcheckDamaged:
		return Failed, "pg_amcheck found damage"
	}
	for _, a := range d.Assertions {
		if a.Result == DoesNotHold || a.Result == AssertionFailed {
			return Failed, fmt.Sprintf("assertion %q: %s", a.Name, a.Result)
		}
	}
	switch {
	case d.State != "complete":
		return Incomplete, "it is " + d.State + " in the snapshot"
	case !d.Restored:
		return Incomplete, "it was not restored"
	case d.NotCompared > 0:
		return Incomplete, fmt.Sprintf("%d tables were not compared", d.NotCompared)
	case d.Amcheck != AmcheckClean && d.Amcheck != AmcheckNotAvailable:
		return Incomplete, "pg_amcheck did not finish"
	}
	for _, a := range d.Assertions {
		if a.Result != Holds {
			return Incomplete, fmt.Sprintf("assertion %q was not run", a.Name)
		}
	}
	return Passed, ""
}

// Judge gives the verdict on the whole: failed if a database failed, passed if
// every one passed and there is one, else incomplete.
func (r *Report) Judge() (Verdict, string) {
	whole, why := Passed, ""
	for i := range r.Databases {
		d := &r.Databases[i]
		v, reason := d.Judge()
		if d.Reason != "" && v != Passed {
			reason = d.Reason
		}
		if v == Failed && whole != Failed || v == Incomplete && whole == Passed {
			whole, why = v, "database "+d.Name+": "+reason
		}
	}
	if len(r.Databases) == 0 {
		return Incomplete, "no database was restored"
	}
	return whole, why
}

// WithoutAmcheck tells whether pg_amcheck did not run in every database.
func (r *Report) WithoutAmcheck() bool {
	for i := range r.Databases {
		if a := r.Databases[i].Amcheck; a != AmcheckClean && a != AmcheckDamaged {
			return true
		}
	}
	return len(r.Databases) == 0
}

// DiskBytes is what everything that was restored took on disk.
func (r *Report) DiskBytes() int64 {
	var n int64
	for i := range r.Databases {
		n += r.Databases[i].DiskBytes
	}
	return n
}

// Settle sets every verdict to what follows, and reasons where none is given.
func (r *Report) Settle() {
	for i := range r.Databases {
		d := &r.Databases[i]
		var why string
		if d.Verdict, why = d.Judge(); d.Reason == "" {
			d.Reason = why
		}
	}
	var why string
	if r.Verdict, why = r.Judge(); r.Reason == "" {
		r.Reason = why
	}
}
