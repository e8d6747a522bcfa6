package session_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestAResultIsSentAgainInEachSessionUntilItIsAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.keepAcks = true })
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		e.release <- job.Result{Outcome: job.Succeeded, Stats: job.Stats{Rows: 42}}
		settle(10 * time.Minute)
		if n := len(c.last().results); n != 1 {
			t.Fatalf("%d results in one session, want 1", n)
		}
		for want := 2; want <= 3; want++ {
			c.drop()
			settle(time.Minute)
			h := c.last()
			if c.count() != want || len(h.results) != 1 || h.results[0].GetStats().GetRows() != 42 {
				t.Fatalf("session %d: %d sessions, results %v", want, c.count(), h.results)
			}
			if len(h.hello.GetRunning()) != 1 {
				t.Errorf("hello lists %d attempts: an unacknowledged result must keep its lease", len(h.hello.GetRunning()))
			}
		}
		if n := len(a.entries()); n != 1 {
			t.Fatalf("%d journal entries before the acknowledgement, want 1", n)
		}
		c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_ResultAck{ResultAck: &tuskvaultv1.JobResultAck{Attempt: ref}}})
		settle(time.Second)
		if n := len(a.entries()); n != 0 {
			t.Errorf("%d journal entries after the acknowledgement, want 0", n)
		}
		c.drop()
		settle(time.Minute)
		if h := c.last(); len(h.results) != 0 || len(h.hello.GetRunning()) != 0 {
			t.Errorf("the result came again after its acknowledgement")
		}
	})
}

func TestAResultSurvivesARestart(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.set(func() { c.keepAcks = true })
		c.backup(c.ref(repo.NewID(), 1))
		settle(time.Second)
		e.release <- job.Result{Outcome: job.Failed, Err: "wrong password", Databases: []job.DatabaseResult{{Database: "shop", Err: "no"}}}
		settle(time.Second)
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		c.set(func() { c.keepAcks = false })
		a.start()
		settle(time.Second)
		h := c.last()
		if len(h.results) != 1 || h.results[0].GetError() != "wrong password" || h.results[0].GetRetryable() || len(h.results[0].GetDatabases()) != 1 {
			t.Errorf("results after the restart: %v", h.results)
		}
		if n := len(a.entries()); n != 0 {
			t.Errorf("%d journal entries left", n)
		}
	})
}

func TestAnAttemptCutOffByARestartIsReportedAsFailedAndRetryable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t)
		e := newExecutor()
		a := newAgent(t, c, e.kinds())
		// What a crash leaves: an entry without a result.
		a.start()
		settle(time.Second)
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		cut := a.entries()
		if len(cut) != 1 || cut[0].Result != nil {
			t.Fatalf("the journal of a running attempt: %+v", cut)
		}
		c.set(func() { c.keepAcks = true })
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		if err := a.options.Journal.Begin(cut[0]); err != nil {
			t.Fatal(err)
		}
		c.set(func() { c.keepAcks = false })
		a.start()
		settle(time.Second)
		h := c.last()
		if len(h.results) != 1 || h.results[0].GetOutcome() != tuskvaultv1.Outcome_OUTCOME_FAILED || !h.results[0].GetRetryable() ||
			!strings.Contains(h.results[0].GetError(), "agent restarted") {
			t.Errorf("results: %v", h.results)
		}
		if len(h.hello.GetRunning()) != 1 {
			t.Errorf("hello lists %d attempts, want the one whose report is to come", len(h.hello.GetRunning()))
		}
		if err := a.end(); err != nil {
			t.Error(err)
		}
		c.stop()
	})
}

func TestAResultThatNobodyTookForAWeekIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		for i, age := range []time.Duration{6 * 24 * time.Hour, 8 * 24 * time.Hour} {
			entry := journal.Entry{Ref: job.Ref{ID: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: uint64(i)}}, Kind: job.KindBackup}
			if err := a.options.Journal.End(entry, job.Result{Outcome: job.Failed, Ended: time.Now().Add(-age)}); err != nil {
				t.Fatal(err)
			}
		}
		a.start()
		settle(time.Second)
		if h := c.last(); len(h.results) != 1 || h.results[0].GetAttempt().GetCounter() != 0 {
			t.Errorf("results %v, want that of six days ago", h.results)
		}
		if n := len(a.entries()); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}

func TestAnOfferThatComesTwiceStartsOneExecutor(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		c.backup(ref)
		settle(time.Second)
		c.drop()
		settle(time.Minute)
		c.backup(ref)
		settle(time.Second)
		if started, _, _ := e.counts(); started != 1 {
			t.Errorf("%d executors, want 1", started)
		}
		if h := c.last(); len(h.accepts) != 1 || len(h.rejects) != 0 {
			t.Errorf("a repeated offer was answered by %d accepts and %d rejects, want 1 and 0", len(h.accepts), len(h.rejects))
		}
		c.set(func() { c.keepAcks = true })
		e.release <- job.Result{Outcome: job.Succeeded}
		settle(time.Second)
		c.backup(ref)
		settle(time.Second)
		if started, _, _ := e.counts(); started != 1 {
			t.Errorf("an offer of an attempt that has ended started it again")
		}
		if h := c.last(); len(h.results) != 2 {
			t.Errorf("%d results, want the second as the answer to the offer", len(h.results))
		}
	})
}

func TestANewerAttemptNeverRunsBesideAnOlderOne(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		id := repo.NewID()
		c.backup(c.ref(id, 5))
		settle(time.Second)
		c.backup(c.ref(id, 4))
		c.backup(c.ref(id, 6))
		settle(time.Second)
		h := c.last()
		if len(h.rejects) != 2 || h.rejects[0].GetRetryable() || !h.rejects[1].GetRetryable() {
			t.Fatalf("rejects: %v", h.rejects)
		}
		if len(h.results) != 1 || h.results[0].GetAttempt().GetCounter() != 5 || h.results[0].GetOutcome() != tuskvaultv1.Outcome_OUTCOME_CANCELED {
			t.Errorf("the older attempt must end: %v", h.results)
		}
		c.backup(c.ref(id, 6))
		settle(time.Second)
		if started, active, most := e.counts(); started != 2 || active != 1 || most != 1 {
			t.Errorf("started %d, active %d, most at once %d", started, active, most)
		}
	})
}

func TestMoreJobsThanTheLimitAreRefusedAsBusy(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		for i := range 5 {
			c.backup(c.ref(repo.NewID(), uint64(i+1)))
		}
		settle(time.Second)
		h := c.last()
		if len(h.accepts) != 2 || len(h.rejects) != 3 || !h.rejects[0].GetRetryable() {
			t.Errorf("%d accepts, %d rejects, retryable %v", len(h.accepts), len(h.rejects), h.rejects[0].GetRetryable())
		}
	})
}

func TestTheAgentsOwnListDecidesWhatItTakes(t *testing.T) {
	cases := []struct {
		name  string
		allow []string
		work  *tuskvaultv1.RestoreWork // nil: a backup
		want  string                   // "" taken, else in the reason
	}{
		{"backup by default", nil, nil, ""},
		{"restore into new databases by default", nil, &tuskvaultv1.RestoreWork{}, ""},
		{"restore over existing ones not by default", nil, &tuskvaultv1.RestoreWork{Replace: true}, "restore-replace"},
		{"not even a dry run of it", nil, &tuskvaultv1.RestoreWork{Replace: true, DryRun: true}, "restore-replace"},
		{"restore of globals not by default", nil, &tuskvaultv1.RestoreWork{Globals: true}, "restore-globals"},
		{"replace if listed", []string{"restore-replace"}, &tuskvaultv1.RestoreWork{Replace: true}, ""},
		{"globals if listed", []string{"restore-new", "restore-globals"}, &tuskvaultv1.RestoreWork{Globals: true}, ""},
		{"live beside", []string{"restore-new"}, &tuskvaultv1.RestoreWork{Live: true, Tables: []string{"t"}}, ""},
		{"live in place", []string{"restore-new"}, &tuskvaultv1.RestoreWork{Live: true, Replace: true, Tables: []string{"t"}}, "restore-replace"},
		{"live in place if listed", []string{"restore-replace"}, &tuskvaultv1.RestoreWork{Live: true, Replace: true, Tables: []string{"t"}}, ""},
		{"passwords of roles that exist", []string{"restore-new", "restore-globals"}, &tuskvaultv1.RestoreWork{Globals: true, OverwritePasswords: true}, "restore-replace"},
		{"globals alone do not let restore", []string{"restore-globals"}, &tuskvaultv1.RestoreWork{Globals: true}, "restore-new"},
		{"nothing with an empty list", []string{}, nil, "backup"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := newController(t), newExecutor()
				a := newAgent(t, c, e.kinds())
				if tc.allow != nil {
					a.options.Allow = tc.allow
				}
				a.start()
				settle(time.Second)
				if tc.work == nil {
					c.backup(c.ref(repo.NewID(), 1))
				} else {
					c.restore(c.ref(repo.NewID(), 1), tc.work)
				}
				settle(time.Second)
				h := c.last()
				switch {
				case tc.want == "" && len(h.accepts) != 1:
					t.Errorf("refused: %v", h.rejects)
				case tc.want != "" && (len(h.rejects) != 1 || h.rejects[0].GetRetryable() || !strings.Contains(h.rejects[0].GetReason(), tc.want)):
					t.Errorf("rejects %v, want one for good that names %q", h.rejects, tc.want)
				}
				if err := a.end(); err != nil {
					t.Error(err)
				}
				c.stop()
			})
		})
	}
}

func TestWorkThatCannotBeDoneIsRefusedForGood(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		delete(a.options.Executors, job.KindRestore)
		c.drop() // the next session sees the change
		settle(time.Minute)
		c.restore(c.ref(repo.NewID(), 1), &tuskvaultv1.RestoreWork{})
		offer := func(ref *tuskvaultv1.AttemptRef, instance string, g *tuskvaultv1.Grant) {
			c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: &tuskvaultv1.JobOffer{Attempt: ref, Grant: g,
				Work: &tuskvaultv1.JobOffer_Backup{Backup: &tuskvaultv1.BackupWork{Instance: instance}}}}})
		}
		offer(c.ref(repo.NewID(), 2), "other", grant())
		noKey := grant()
		noKey.NameKey = make([]byte, 32)
		offer(c.ref(repo.NewID(), 3), "main", noKey)
		noSeal := grant()
		noSeal.SealKeys = nil
		offer(c.ref(repo.NewID(), 4), "main", noSeal)
		stale := c.ref(repo.NewID(), 5)
		stale.Epoch = 99
		offer(stale, "main", grant())
		c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: &tuskvaultv1.JobOffer{Attempt: c.ref(repo.NewID(), 6)}}})
		offer(&tuskvaultv1.AttemptRef{JobId: "rubbish"}, "main", grant()) // has no name to answer to
		settle(time.Second)
		h := c.last()
		want := []string{"does not know this kind", `no instance "other"`, "name key", "no seal key", "epoch 99", "does not know this kind"}
		if len(h.rejects) != len(want) || len(h.accepts) != 0 {
			t.Fatalf("%d rejects and %d accepts, want %d and 0", len(h.rejects), len(h.accepts), len(want))
		}
		for i, r := range h.rejects {
			if !strings.Contains(r.GetReason(), want[i]) || r.GetRetryable() {
				t.Errorf("reject %d: %q (retryable %v), want %q for good", i, r.GetReason(), r.GetRetryable(), want[i])
			}
		}
		if started, _, _ := e.counts(); started != 0 {
			t.Errorf("%d executors started", started)
		}
		if len(a.entries()) != 0 {
			t.Error("a refused offer is in the journal")
		}
	})
}

func TestCancelStopsTheExecutorWithItsReasonWithinSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		c.cancel(ref, "alice wants the machine")
		c.cancel(c.ref(repo.NewID(), 9), "unknown attempts are over already")
		settle(time.Second)
		h := c.last()
		if len(h.results) != 1 || h.results[0].GetOutcome() != tuskvaultv1.Outcome_OUTCOME_CANCELED ||
			!strings.Contains(h.results[0].GetError(), "alice wants the machine") {
			t.Errorf("results: %v", h.results)
		}
		if _, active, _ := e.counts(); active != 0 {
			t.Error("the executor still runs")
		}
	})
}

func TestAttemptsThatTheControllerAbandonsAreStoppedAndForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		c.set(func() { c.abandon = []*tuskvaultv1.AttemptRef{ref} })
		c.drop()
		settle(time.Minute)
		h := c.last()
		if len(h.hello.GetRunning()) != 1 {
			t.Fatalf("hello lists %d attempts, want 1", len(h.hello.GetRunning()))
		}
		if _, active, _ := e.counts(); active != 0 {
			t.Error("the executor still runs")
		}
		if len(h.results) != 0 || len(a.entries()) != 0 {
			t.Errorf("%d results and %d journal entries of an attempt nobody wants", len(h.results), len(a.entries()))
		}
		if n := h.running[len(h.running)-1]; n != 0 {
			t.Errorf("heartbeats still extend %d leases", n)
		}
	})
}

func TestAnAttemptGoesOnOverAShortLossOfTheController(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		ref := c.ref(repo.NewID(), 1)
		c.backup(ref)
		settle(time.Second)
		c.set(func() { c.offline = true })
		c.drop()
		settle(5 * time.Minute)
		c.set(func() { c.offline = false })
		settle(time.Minute)
		h := c.last()
		if c.count() != 2 || len(h.hello.GetRunning()) != 1 || h.hello.GetRunning()[0].GetJobId() != ref.GetJobId() {
			t.Fatalf("%d sessions, hello %v", c.count(), h.hello.GetRunning())
		}
		e.release <- job.Result{Outcome: job.Succeeded}
		settle(time.Second)
		if h := c.last(); len(h.results) != 1 || h.results[0].GetOutcome() != tuskvaultv1.Outcome_OUTCOME_SUCCEEDED {
			t.Errorf("results: %v", h.results)
		}
	})
}

func TestAnAttemptWithoutAControllerEndsItselfAfterTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.backup(c.ref(repo.NewID(), 1))
		settle(time.Second)
		c.set(func() { c.offline = true })
		c.drop()
		settle(9 * time.Minute)
		if _, active, _ := e.counts(); active != 1 {
			t.Fatal("the attempt ended before its time")
		}
		settle(2 * time.Minute)
		if _, active, _ := e.counts(); active != 0 {
			t.Fatal("the attempt goes on without a controller")
		}
		if entries := a.entries(); len(entries) != 1 || entries[0].Result == nil || !entries[0].Result.Retryable ||
			!strings.Contains(entries[0].Result.Err, "no word from the controller") {
			t.Errorf("journal: %+v", entries)
		}
		c.set(func() { c.offline = false })
		settle(2 * time.Minute)
		if h := c.last(); len(h.results) != 1 {
			t.Errorf("%d results after the controller came back, want 1", len(h.results))
		}
	})
}

func TestStoppingTheAgentEndsItsWorkAndReportsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e := newController(t), newExecutor()
		a := newAgent(t, c, e.kinds())
		a.start()
		settle(time.Second)
		c.backup(c.ref(repo.NewID(), 1))
		settle(time.Second)
		began := time.Now()
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %s", took)
		}
		h := c.last()
		if len(h.results) != 1 || h.results[0].GetOutcome() != tuskvaultv1.Outcome_OUTCOME_FAILED || !h.results[0].GetRetryable() ||
			!strings.Contains(h.results[0].GetError(), "agent is stopping") {
			t.Errorf("results: %v", h.results)
		}
		if len(a.entries()) != 0 {
			t.Error("an acknowledged attempt is still in the journal")
		}
		c.stop()
	})
}

func TestAResultLargerThanAMessageIsShortenedAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		c.backup(c.ref(repo.NewID(), 1))
		settle(time.Second)
		result := job.Result{Outcome: job.Failed, Err: strings.Repeat("é", 4000)}
		for range 20000 {
			result.Problems = append(result.Problems, repo.Problem{Severity: "error", Reason: strings.Repeat("p", 900)})
			result.Databases = append(result.Databases, job.DatabaseResult{Database: "d", Err: strings.Repeat("e", 900)})
			result.Plan = append(result.Plan, strings.Repeat("l", 900))
		}
		e.release <- result
		settle(time.Minute)
		h := c.last()
		if c.count() != 1 || len(h.results) != 1 {
			t.Fatalf("%d sessions, %d results", c.count(), len(h.results))
		}
		p := h.results[0].GetProblems()
		if !strings.Contains(p[len(p)-1].GetReason(), "left out") {
			t.Errorf("nothing tells what is missing: %q", p[len(p)-1].GetReason())
		}
	})
}
