package event_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/internal/errs"
)

var started = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// publish adds n events whose messages count on from those before.
func publish(l *event.Log, from, n int) {
	for i := range n {
		l.Publish(event.Event{Kind: event.JobQueued, Message: fmt.Sprint(from + i)})
	}
}

// messages takes everything there is.
func messages(t *testing.T, f *event.Follower) string {
	t.Helper()
	var all []string
	for {
		batch, err := f.Take()
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			return strings.Join(all, " ")
		}
		for _, e := range batch {
			all = append(all, e.Message)
		}
	}
}

func follow(t *testing.T, l *event.Log, after int64) (*event.Follower, *event.Gap) {
	t.Helper()
	f, gap, err := l.Follow(after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, gap
}

func TestAFollowerGetsWhatComesAfterWhatItHas(t *testing.T) {
	l := event.New(started, 5)
	publish(l, 0, 2)
	now, gap := follow(t, l, event.Newest)
	if got := messages(t, now); got != "" || gap != nil {
		t.Errorf("before anything new: %q %v", got, gap)
	}
	publish(l, 2, 2)
	if got := messages(t, now); got != "2 3" {
		t.Errorf("from now on: %q", got)
	}
	all, gap := follow(t, l, 0)
	if got := messages(t, all); got != "0 1 2 3" || gap != nil {
		t.Errorf("all: %q %v", got, gap)
	}
	again, gap := follow(t, l, all.Last()-1)
	if got := messages(t, again); got != "3" || gap != nil {
		t.Errorf("after the last but one: %q %v", got, gap)
	}
	upToDate, gap := follow(t, l, all.Last())
	if got := messages(t, upToDate); got != "" || gap != nil {
		t.Errorf("after the last: %q %v", got, gap)
	}
}

func TestWhoMayHaveMissedSomethingIsTold(t *testing.T) {
	l := event.New(started, 5)
	publish(l, 0, 20)
	first := started.UnixMicro()
	for _, c := range []struct {
		after int64
		want  string // messages
		gap   string // words of it, "" for none
	}{
		{first + 14, "15 16 17 18 19", ""},
		{first + 13, "15 16 17 18 19", "newest 5 events"},
		{first, "15 16 17 18 19", "newest 5 events"},
		{first - 1, "15 16 17 18 19", "newest 5 events"},
		{first - 2, "15 16 17 18 19", "restarted"},
		{1, "15 16 17 18 19", "restarted"},
		{first + 20, "15 16 17 18 19", "clock"},
		{first + 1e12, "15 16 17 18 19", "clock"},
	} {
		f, gap := follow(t, l, c.after)
		if got := messages(t, f); got != c.want {
			t.Errorf("after %d: %q, want %q", c.after-first, got, c.want)
		}
		if (gap == nil) != (c.gap == "") || gap != nil && (!strings.Contains(gap.Reason, c.gap) || gap.First != first+15) {
			t.Errorf("after %d: gap %+v, want %q", c.after-first, gap, c.gap)
		}
	}
}

func TestNumbersGrowOverARestart(t *testing.T) {
	before := event.New(started, 5)
	publish(before, 0, 500)
	f, _ := follow(t, before, 0)
	messages(t, f)
	after := event.New(started.Add(time.Second), 5)
	publish(after, 500, 2)
	next, gap := follow(t, after, f.Last())
	if got := messages(t, next); got != "500 501" || gap == nil || !strings.Contains(gap.Reason, "restarted") {
		t.Errorf("%q %+v", got, gap)
	}
	if next.Last() <= f.Last() || next.Last() > 1<<53 {
		t.Errorf("number %d after %d", next.Last(), f.Last())
	}
}

func TestASlowFollowerIsCutOff(t *testing.T) {
	l := event.New(started, 5)
	f, _ := follow(t, l, event.Newest)
	publish(l, 0, 6)
	if _, err := f.Take(); !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "1 events") {
		t.Errorf("%v", err)
	}
}

func TestFollowersAreFewAndEndWithTheLog(t *testing.T) {
	l := event.New(started, 5)
	f, _ := follow(t, l, event.Newest)
	publish(l, 0, 1)
	l.Close()
	<-f.News()
	if got, err := f.Take(); len(got) != 1 || err != nil {
		t.Errorf("what came before the end: %v %v", got, err)
	}
	if _, err := f.Take(); !errors.Is(err, errs.Unavailable) {
		t.Errorf("%v", err)
	}
	var all []*event.Follower
	for {
		f, _, err := l.Follow(event.Newest)
		if err != nil {
			if !errors.Is(err, errs.Busy) || len(all) < 100 {
				t.Errorf("%d followers: %v", len(all), err)
			}
			break
		}
		all = append(all, f)
	}
	for _, f := range all {
		f.Close()
	}
	follow(t, l, event.Newest)
}

func TestMessagesAreShortLinesOfText(t *testing.T) {
	l := event.New(started, 5)
	l.Publish(event.Event{Message: "a\nb" + strings.Repeat("é", 600) + "\xff"})
	f, _ := follow(t, l, 0)
	batch, err := f.Take()
	if err != nil {
		t.Fatal(err)
	}
	if m := batch[0].Message; len(m) > 512 || !utf8.ValidString(m) || !strings.HasPrefix(m, "a bé") {
		t.Errorf("%d bytes: %q", len(m), m)
	}
}

// Random followers at random paces each see a run of numbers without holes, or
// are told that they were too slow.
func TestNoFollowerMissesAnEventSilently(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := event.New(started, 64)
	const events = 5000
	var group sync.WaitGroup
	for i := range 8 {
		f, _ := follow(t, l, event.Newest)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			want := f.Last() + 1
			for range f.News() {
				for rng.IntN(4) > 0 {
					batch, err := f.Take()
					if errors.Is(err, errs.Exhausted) || errors.Is(err, errs.Unavailable) {
						return
					}
					for _, e := range batch {
						if e.Sequence != want {
							t.Errorf("follower %d: event %d, want %d", i, e.Sequence, want)
							return
						}
						want++
					}
				}
			}
		})
	}
	publish(l, 0, events)
	l.Close()
	// News may have been taken before the end was there: who still waits is woken again.
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			l.Close()
		}
	}
}

func TestEveryStateThatPeopleSeeHasAKind(t *testing.T) {
	seen := map[event.Kind]bool{}
	for _, s := range catalog.JobStates() {
		k, ok := event.OfState(s)
		if ok == (s == catalog.JobCommitted) || seen[k] {
			t.Errorf("state %s: kind %d %v", s, k, ok)
		}
		seen[k] = ok
	}
	if len(event.Kinds()) != 27 {
		t.Errorf("%d kinds", len(event.Kinds()))
	}
}
