package clock

import (
	"fmt"
	"slices"
	"time"
)

const (
	// Tolerance is how far the clock may be from a witness.
	Tolerance = time.Hour
	// Leap is how far it may be from what is expected when nobody vouches for it who
	// is known to have a clock of its own: agents may run on this very machine. A
	// controller that was away for longer waits for a person.
	Leap = 14 * 24 * time.Hour
)

// Evidence is what is known about a clock.
type Evidence struct {
	// Now is what the clock says.
	Now time.Time
	// Expected is what it should say by what was believed before; zero when nothing was.
	Expected time.Time
	// Store is what the store's own clock says; zero when it has none or did not say.
	Store time.Time
	// Agents is what the clocks of agents say.
	Agents []time.Time
}

// Verdict is what comes of it.
type Verdict struct {
	// Doubt says for people why the clock is not believed; empty when it is.
	Doubt string
	// Leapt tells that the doubt is about a leap that agents vouch for: no witness
	// who comes later can settle it, but a person can.
	Leapt bool
}

// Judge decides. Every witness that there is must agree; without any, what was
// expected must.
func Judge(e Evidence) Verdict {
	if !e.Store.IsZero() {
		if off := e.Now.Sub(e.Store); off.Abs() > Tolerance {
			return Verdict{Doubt: "the store's clock says " + differs(e.Store, off)}
		}
	}
	for _, at := range middle(e.Agents) {
		if off := e.Now.Sub(at); off.Abs() > Tolerance {
			return Verdict{Doubt: fmt.Sprintf("the agents' clocks (%d) say %s", len(e.Agents), differs(at, off))}
		}
	}
	if !e.Store.IsZero() {
		return Verdict{}
	}
	off := e.Now.Sub(e.Expected)
	switch {
	case len(e.Agents) > 0 && (e.Expected.IsZero() || off.Abs() <= Leap):
		return Verdict{}
	case len(e.Agents) > 0:
		return Verdict{Leapt: true, Doubt: fmt.Sprintf("it leapt: by what was believed before it should be %s", differs(e.Expected, off))}
	case e.Expected.IsZero():
		return Verdict{Doubt: "nobody else tells the time: no agent is connected"}
	case off.Abs() > Tolerance:
		return Verdict{Doubt: fmt.Sprintf("no agent is connected, and by what was believed before it should be %s", differs(e.Expected, off))}
	}
	return Verdict{}
}

// middle gives the median of some times: both of the middle ones when they are even
// in number, so that one of two hosts that lies is noticed and not averaged.
func middle(all []time.Time) []time.Time {
	if len(all) == 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(all), time.Time.Compare)
	return sorted[(len(sorted)-1)/2 : len(sorted)/2+1]
}

func differs(at time.Time, off time.Duration) string {
	way := "ahead"
	if off < 0 {
		way = "behind"
	}
	return fmt.Sprintf("%s, this clock is %s %s", at.UTC().Format(time.RFC3339), off.Abs().Round(time.Second), way)
}
