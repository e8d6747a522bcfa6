package api

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/copies"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Copies are other stores with the same repository. *copies.Service implements it.
type Copies interface {
	Status() []copies.Status
}

// copyStatus tells how far copies are.
func (d Deps) copyStatus() []*tuskvaultv1.CopyStatus {
	if d.Copies == nil {
		return nil
	}
	var out []*tuskvaultv1.CopyStatus
	for _, c := range d.Copies.Status() {
		out = append(out, &tuskvaultv1.CopyStatus{Name: c.Name, Store: c.Location, State: tuskvaultv1.CopyState(c.Phase), ObjectsWaiting: c.Objects, BytesWaiting: c.Bytes,
			Lag: durationpb.New(c.Lag), MaxLag: durationpb.New(c.MaxLag), CompareTime: toTime(c.Compared), CompleteTime: toTime(c.Complete), Strays: c.Strays, LeftOut: c.LeftOut,
			Problem: c.Problem, Late: c.Late, Reads: c.Reads, Healed: c.Healed})
	}
	return out
}

// copyNotices says what needs a person about copies.
func copyNotices(all []*tuskvaultv1.CopyStatus, add func(severity tuskvaultv1.Severity, hint, format string, args ...any)) {
	const warning, failure = tuskvaultv1.Severity_SEVERITY_WARNING, tuskvaultv1.Severity_SEVERITY_ERROR
	for _, c := range all {
		name := c.GetName()
		switch {
		case c.GetState() == tuskvaultv1.CopyState_COPY_STATE_REFUSED:
			add(failure, "docs/OPERATIONS.md, Copies", "copy %s is not written to: %s", name, c.GetProblem())
		case c.GetLate():
			add(failure, "tuskctl repo stats, and the controller's log", "copy %s lacks something since %s%s", name, c.GetLag().AsDuration().Round(time.Second), because(c.GetProblem()))
		case c.GetState() == tuskvaultv1.CopyState_COPY_STATE_FAILING:
			add(warning, "", "copy %s cannot be brought up to date: %s", name, c.GetProblem())
		}
		if n := c.GetStrays(); n > 0 {
			add(failure, "tuskctl repo check; docs/OPERATIONS.md, Copies", "copy %s has %s that the repository's own store lacks and that nobody deleted", name, plural(int(n), "object", "objects"))
		}
		if n := c.GetLeftOut(); n > 0 {
			add(failure, "tuskctl repo check", "copy %s lacks %s, damaged in the repository's own store", name, plural(int(n), "object", "objects"))
		}
	}
}

func because(problem string) string {
	if problem == "" {
		return ""
	}
	return fmt.Sprintf(": %s", problem)
}
