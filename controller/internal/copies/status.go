package copies

import "time"

// Phase is how a copy stands.
type Phase int

// The phases.
const (
	// PhaseStarting: not compared yet since the start.
	PhaseStarting Phase = iota + 1
	// PhaseComplete: it has everything that the last comparison found.
	PhaseComplete
	// PhaseCopying: objects are being copied, or wait for it.
	PhaseCopying
	// PhaseFailing: the last round failed and is tried again.
	PhaseFailing
	// PhaseRefused: not touched before a person has looked.
	PhaseRefused
)

// Status is how far a copy is.
type Status struct {
	Name, Location string
	Phase          Phase
	// Objects and Bytes are not copied yet: as the last comparison found, less what
	// was copied since.
	Objects, Bytes int64
	// Lag is the age of the oldest of them; MaxLag from which on it is Late.
	Lag, MaxLag time.Duration
	Late        bool
	// Compared is when both stores were last compared to the end, Complete when the
	// copy last had everything.
	Compared, Complete time.Time
	// Strays are in the copy alone and nothing permits to delete them; LeftOut could
	// not be copied because they are damaged.
	Strays, LeftOut int64
	// Problem says what is wrong.
	Problem string
	// Reads by restores and exports, and objects Healed by the copy or in it, since
	// the start.
	Reads, Healed int64
}

// Status tells how far each copy is, in the order of the configuration.
func (s *Service) Status() []Status {
	out := make([]Status, len(s.followers))
	now := time.Now()
	for i, f := range s.followers {
		f.mu.Lock()
		c := f.state
		out[i] = Status{Name: f.o.Name, Location: c.Location, Phase: f.phase, Objects: c.Objects, Bytes: c.Bytes, Lag: f.lagLocked(now), MaxLag: f.o.MaxLag,
			Late: c.Late, Compared: c.Compared, Complete: c.Complete, Strays: c.Strays, LeftOut: c.LeftOut, Problem: f.problem, Reads: f.reads, Healed: f.healed}
		f.mu.Unlock()
	}
	return out
}
