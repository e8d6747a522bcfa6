package copies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// The pauses between rounds.
const (
	// restLeast and restMost bound the pause after a round; within them it is
	// restFactor times what its comparison took, so that comparing large stores is a
	// tenth of the time at most.
	restLeast  = 2 * time.Second
	restMost   = time.Hour
	restFactor = 10
	// lookEvery is how long a copy waits when nobody wakes it: for what is stored
	// beside backups. headEvery is how soon it goes on when the catalog log has.
	lookEvery = 15 * time.Minute
	headEvery = time.Minute
	// The pause after a failed round doubles from the first to the last.
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// follower keeps one copy.
type follower struct {
	s    *Service
	o    Options
	log  *zap.Logger
	pace *pace
	wake chan struct{} // of 1

	mu      sync.Mutex
	store   blob.Store // nil until it is known to be a copy
	state   catalog.CopyState
	loaded  bool
	saved   catalog.CopyState // as it is in the catalog
	phase   Phase
	problem string
	alarm   string          // what was told last
	done    map[string]bool // permits that were followed
	reads   int64
	healed  int64

	// Of run's goroutine alone.
	comparing time.Duration // what the last comparison took
	logAt     uint64        // the newest record of the log in the copy, which has all before it
	whole     time.Time     // when the whole log was compared last
}

func newFollower(s *Service, o Options) *follower {
	return &follower{s: s, o: o, log: s.log.With(zap.String("copy", o.Name)), pace: newPace(o.BytesPerSecond), wake: make(chan struct{}, 1),
		phase: PhaseStarting, done: map[string]bool{}}
}

// run makes rounds until ctx ends.
func (f *follower) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		again, err := f.round(ctx)
		if ctx.Err() != nil {
			return
		}
		f.note(ctx, err)
		switch {
		case err != nil:
			_ = sleep(ctx, pause) // the loop sees the end
			pause = min(2*pause, lastPause)
			continue
		case again:
			pause = firstPause
			_ = sleep(ctx, min(max(f.comparing, restLeast), restMost))
			continue
		}
		pause = firstPause
		if sleep(ctx, min(max(restFactor*f.comparing, restLeast), restMost)) != nil {
			return
		}
		f.rest(ctx)
	}
}

// rest waits until something was stored, or for lookEvery.
func (f *follower) rest(ctx context.Context) {
	tick := time.NewTicker(headEvery)
	defer tick.Stop()
	for start := time.Now(); ; {
		select {
		case <-f.wake:
			return
		case <-tick.C:
			if time.Since(start) >= lookEvery || f.s.d.Head != nil && f.s.d.Head().Number > f.logAt {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// refused tells errors after which only a person can go on.
func refused(err error) bool {
	return errors.Is(err, errs.Conflict) || errors.Is(err, errs.Exists) || errors.Is(err, errs.Invalid) || errors.Is(err, errs.Unsupported)
}

// note takes in how a round ended.
func (f *follower) note(ctx context.Context, err error) {
	f.mu.Lock()
	switch {
	case err == nil && f.state.Objects > 0:
		f.phase, f.problem = PhaseCopying, ""
	case err == nil:
		f.phase, f.problem = PhaseComplete, ""
	case refused(err):
		f.phase, f.problem = PhaseRefused, err.Error()
	default:
		f.phase, f.problem = PhaseFailing, err.Error()
	}
	alarm := ""
	switch {
	case f.phase == PhaseRefused:
		alarm = f.problem
	case err == nil && f.state.Strays > 0:
		alarm = fmt.Sprintf("%d objects are in the copy, and neither in the repository's own store nor permitted to be deleted", f.state.Strays)
	case err == nil && f.state.LeftOut > 0:
		alarm = fmt.Sprintf("%d objects are damaged in the repository's own store and were not copied", f.state.LeftOut)
	}
	news := alarm != "" && alarm != f.alarm
	if err == nil || alarm != "" {
		f.alarm = alarm
	}
	f.mu.Unlock()
	if err != nil {
		f.log.Warn("copy not brought up to date, will try again", zap.Error(err))
	}
	if news {
		f.log.Error("copy needs a person", zap.String("reason", alarm))
		f.s.d.Events.Publish(event.Event{Kind: event.CopyAlarm, Message: fmt.Sprintf("copy %s: %s", f.o.Name, alarm)})
	}
	f.judge(ctx)
}

// judge tells once when the copy becomes late, and once when it has caught up.
func (f *follower) judge(ctx context.Context) {
	f.mu.Lock()
	late := f.o.MaxLag > 0 && f.lagLocked(time.Now()) > f.o.MaxLag
	was, lag := f.state.Late, f.lagLocked(time.Now()).Round(time.Second)
	if !late && f.phase != PhaseComplete {
		late = was // only having everything is the end of it
	}
	f.state.Late = late
	f.mu.Unlock()
	switch {
	case late && !was:
		f.log.Error("copy is late", zap.Duration("lag", lag), zap.Duration("bound", f.o.MaxLag))
		f.s.d.Events.Publish(event.Event{Kind: event.CopyLate, Message: fmt.Sprintf("copy %s lacks something since %s", f.o.Name, lag)})
	case was && !late:
		f.log.Info("copy has caught up")
		f.s.d.Events.Publish(event.Event{Kind: event.CopyCaughtUp, Message: fmt.Sprintf("copy %s has everything again", f.o.Name)})
	}
	if err := f.save(ctx); err != nil && ctx.Err() == nil {
		f.log.Warn("state of the copy not noted, will try again", zap.Error(err))
	}
}

// saveEvery is how often a state is written that differs in its times alone.
const saveEvery = 10 * time.Minute

// save writes the state to the catalog when there is news in it.
func (f *follower) save(ctx context.Context) error {
	f.mu.Lock()
	now, old := f.state, f.saved
	f.mu.Unlock()
	if now.Begun.IsZero() {
		return nil
	}
	same := now
	same.Compared, same.Complete = old.Compared, old.Complete
	if same == old && now.Compared.Sub(old.Compared) < saveEvery {
		return nil
	}
	if err := f.s.d.Catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error { return tx.PutCopy(now) }); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved = now
	return nil
}

// load reads the state that an earlier process left, once.
func (f *follower) load(ctx context.Context) error {
	if f.loaded {
		return nil
	}
	var was catalog.CopyState
	err := f.s.d.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if was, err = tx.Copy(f.o.Name); errors.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.saved, f.loaded = was, was, true
	f.state.Name = f.o.Name
	return nil
}

// comparedLately is how old a comparison can be that says that nothing is missing:
// the longest pause between two, with some time for the comparison itself.
const comparedLately = lookEvery + 2*restMost

// lagLocked is the age of the oldest thing that the copy lacks. A copy that
// cannot be compared may lack all that came since it was.
func (f *follower) lagLocked(now time.Time) time.Duration {
	s := f.state
	since := time.Time{}
	switch {
	case s.Compared.IsZero():
		since = s.Begun
	case s.Objects > 0 && !s.Oldest.IsZero():
		since = s.Oldest
	case s.Objects > 0:
		since = s.Complete
	case f.phase == PhaseFailing || f.phase == PhaseRefused || f.phase == PhaseStarting || now.Sub(s.Compared) > comparedLately:
		since = s.Compared
	default:
		return 0
	}
	if since.IsZero() {
		since = f.s.started
	}
	return max(0, now.Sub(since))
}

// followed tells whether a permit was followed here.
func (f *follower) followed(p catalog.Permit) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done[p.Object]
}

// forget forgets permits that are no more.
func (f *follower) forget(objects []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range objects {
		delete(f.done, o)
	}
}
