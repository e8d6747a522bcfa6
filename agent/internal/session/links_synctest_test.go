package session_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// settle lets d pass and everything come to rest.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestHeartbeatsGoOnWhileAnExecutorBlocksForHours(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.backup(c.ref(repo.NewID(), 1))
		settle(3 * time.Hour)
		h := c.last()
		if c.count() != 1 {
			t.Fatalf("%d sessions, want the first to last", c.count())
		}
		if want := int(3 * time.Hour / heartbeat); len(h.beats) < want {
			t.Errorf("%d heartbeats in 3 h, want at least %d", len(h.beats), want)
		}
		for i := 1; i < len(h.beats); i++ {
			if gap := h.beats[i].Sub(h.beats[i-1]); gap > heartbeat+time.Second {
				t.Fatalf("gap of %s between heartbeats", gap)
			}
		}
		if n := h.running[len(h.running)-1]; n != 1 {
			t.Errorf("the last heartbeat extends %d leases, want 1", n)
		}
		if len(h.accepts) != 1 || len(h.results) != 0 {
			t.Errorf("%d accepts and %d results, want 1 and 0", len(h.accepts), len(h.results))
		}
	})
}

func TestHeartbeatsGoOnUnderAFloodOfLogLinesAndProgress(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.backup(c.ref(repo.NewID(), 1))
		settle(time.Second)
		for range 5 {
			for i := range 20000 {
				e.reporter.Log("info", fmt.Sprintf("line %d", i))
				e.reporter.Progress(job.Progress{Phase: fmt.Sprint(i)})
			}
			time.Sleep(heartbeat)
		}
		e.release <- job.Result{Outcome: job.Succeeded}
		settle(time.Second)
		h := c.last()
		for i := 1; i < len(h.beats); i++ {
			if gap := h.beats[i].Sub(h.beats[i-1]); gap > heartbeat+time.Second {
				t.Errorf("gap of %s between heartbeats", gap)
			}
		}
		if n := len(h.lines); n >= 5*20000 || n < 1000 {
			t.Errorf("%d lines arrived, want some dropped and the newest kept", n)
		}
		if last := h.lines[len(h.lines)-1].GetMessage(); last != "line 19999" {
			t.Errorf("the last line is %q: the oldest must be dropped, not the newest", last)
		}
		dropped := 0
		for _, l := range h.lines {
			if strings.Contains(l.GetMessage(), "log lines dropped") {
				dropped++
			}
		}
		if dropped == 0 {
			t.Error("nothing tells that lines were dropped")
		}
		if len(h.bars) > 60 || len(h.bars) == 0 {
			t.Errorf("%d progress messages in 50 s, want about one a second at most", len(h.bars))
		}
		if len(h.results) != 1 {
			t.Errorf("%d results, want 1", len(h.results))
		}
	})
}

func TestASilentControllerLosesTheLink(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.silent = true })
		settle(70 * time.Second)
		c.set(func() { c.silent = false })
		settle(2 * time.Minute)
		if c.count() < 2 {
			t.Errorf("%d sessions: a controller that answers nothing must not be waited for", c.count())
		}
	})
}

func TestReconnectsBackOffWithJitterUpToAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.offline, c.dials = true, nil })
		c.drop()
		settle(2 * time.Hour)
		c.mu.Lock()
		dials := c.dials
		c.mu.Unlock()
		if n := len(dials); n < 100 || n > 600 {
			t.Errorf("%d tries in two hours, want about one each 30 s", n)
		}
		longest := time.Duration(0)
		same := map[time.Duration]int{}
		for i := 1; i < len(dials); i++ {
			gap := dials[i].Sub(dials[i-1])
			longest = max(longest, gap)
			same[gap.Round(time.Millisecond)]++
		}
		if longest > 62*time.Second || longest < 30*time.Second {
			t.Errorf("the longest wait is %s, want below a minute and not far", longest)
		}
		for gap, n := range same {
			if n > len(dials)/4 {
				t.Errorf("%d of %d waits are %s: no jitter", n, len(dials), gap)
			}
		}
		c.set(func() { c.offline = false })
		settle(2 * time.Minute)
		if c.count() != 2 {
			t.Errorf("%d sessions after the network came back", c.count())
		}
	})
}

func TestAControllerOfALowerEpochIsRefusedAlsoAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.epoch = 5 })
		c.drop()
		settle(time.Minute)
		if c.count() != 2 {
			t.Fatalf("%d sessions", c.count())
		}
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		// The old controller, resumed: it must not be obeyed in anything.
		c.set(func() { c.epoch = 4; c.abandon = []*tuskvaultv1.AttemptRef{ref} })
		c.drop()
		settle(time.Minute)
		if _, active, _ := e.counts(); active != 1 {
			t.Error("an old controller stopped an attempt")
		}
		old := c.last()
		if len(old.beats) != 0 {
			t.Error("the agent stayed in a session with an old controller")
		}
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		a.start()
		settle(time.Minute)
		if h := c.last(); len(h.beats) != 0 {
			t.Error("after a restart the agent obeys an old controller")
		}
		c.set(func() { c.epoch = 6; c.abandon = nil })
		settle(2 * time.Minute)
		if h := c.last(); len(h.beats) == 0 {
			t.Error("a newer controller is refused")
		}
		if a.logs.FilterMessage("controller refused, or refuses this agent").Len() == 0 {
			t.Error("the log does not tell of the refused controller")
		}
	})
}

func TestTheControllerCanAskForInventoryAndLogLevel(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		if got := c.last().hello.GetInventory().GetInstances(); len(got) != 1 || got[0].GetName() != "main" || !got[0].GetReachable() {
			t.Fatalf("hello's instances: %v", got)
		}
		settle(50 * time.Minute)
		if n := len(c.last().stocks); n != 0 {
			t.Errorf("an unchanged inventory was sent %d times within the hour", n)
		}
		settle(30 * time.Minute)
		if n := len(c.last().stocks); n != 1 {
			t.Errorf("an unchanged inventory was sent %d times in 80 minutes, want 1", n)
		}
		c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_InventoryRequest{InventoryRequest: &tuskvaultv1.InventoryRequest{}}})
		settle(time.Second)
		if n := len(c.last().stocks); n != 2 {
			t.Errorf("%d inventories after a request, want 2", n)
		}
		a.inventor.mu.Lock()
		a.inventor.name = "renamed"
		a.inventor.mu.Unlock()
		settle(7 * time.Minute)
		if h := c.last(); len(h.stocks) != 3 || h.stocks[2].GetHostname() != "renamed" {
			t.Errorf("a change was not sent: %d inventories", len(h.stocks))
		}
		c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_SetLogLevel{SetLogLevel: &tuskvaultv1.SetAgentLogLevel{Level: "debug"}}})
		settle(time.Second)
		if a.level != "debug" {
			t.Errorf("log level %q", a.level)
		}
	})
}

func TestASlowInventoryDelaysNoHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		a.inventor.mu.Lock()
		a.inventor.delay = time.Hour
		a.inventor.mu.Unlock()
		settle(time.Hour)
		h := c.last()
		for i := 1; i < len(h.beats); i++ {
			if gap := h.beats[i].Sub(h.beats[i-1]); gap > heartbeat+time.Second {
				t.Fatalf("gap of %s", gap)
			}
		}
		c.drop()
		settle(2 * time.Minute)
		if c.count() != 2 {
			t.Errorf("%d sessions", c.count())
		}
	})
}

func TestTheWitnessIsKeptAndNeverGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		repository := repo.RepositoryID(c.root.Repository())
		say := func(id repo.RepositoryID, epoch, number uint64) {
			c.set(func() {
				c.witness = &tuskvaultv1.Witness{RepositoryId: id.String(), Epoch: epoch, LogNumber: number, LogHash: make([]byte, 32)}
			})
			settle(2 * heartbeat)
		}
		say(repository, 1, 100)
		say(repository, 1, 90)
		say(repo.NewID(), 9, 900)
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		c.set(func() { c.witness = nil })
		a.start()
		settle(time.Second)
		w := c.last().hello.GetWitness()
		if w.GetRepositoryId() != repository.String() || w.GetEpoch() != 1 || w.GetLogNumber() != 100 {
			t.Errorf("witness after a restart: %v, want record 100", w)
		}
		for _, m := range []string{"repository is behind what this agent has seen: its store may have been rolled back", "controller speaks of another repository"} {
			if a.logs.FilterMessage(m).Len() == 0 {
				t.Errorf("the log does not say %q", m)
			}
		}
	})
}

func TestADifferenceOfClocksIsToldAndRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.ahead = 5 * time.Minute })
		settle(time.Minute)
		if n := a.logs.FilterMessage("clock compared with the controller's").Len(); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		if skew := a.options.State.Facts().Skew; skew < 4*time.Minute || skew > 6*time.Minute {
			t.Errorf("skew %s", skew)
		}
	})
}
