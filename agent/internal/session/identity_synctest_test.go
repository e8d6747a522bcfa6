package session_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestCertificatesRenewThemselvesAndTheSessionShowsTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e := newController(t), newExecutor()
		c.life = 2 * time.Hour
		a := newAgent(t, c, e.kinds())
		a.start()
		settle(time.Second)
		first := c.last().serial
		c.backup(c.ref(repo.NewID(), 1))
		settle(100 * time.Minute)
		h := c.last()
		if h.serial == first {
			t.Fatal("the session still shows the first certificate after two thirds of its life")
		}
		if len(h.hello.GetRunning()) != 1 {
			t.Error("the attempt did not survive the renewal")
		}
		// The controller is away for a while when the next renewal is due.
		c.set(func() { c.refuse = fmt.Errorf("not now: %w", errs.Busy) })
		settle(70 * time.Minute)
		c.set(func() { c.refuse = nil })
		settle(8 * time.Hour)
		if got := c.last(); got.serial == h.serial || time.Since(got.beats[len(got.beats)-1]) > 2*heartbeat {
			t.Error("no live session with a renewed certificate after four lives")
		}
		if _, active, _ := e.counts(); active != 1 {
			t.Error("the attempt did not survive the renewals")
		}
		if err := a.end(); err != nil {
			t.Error(err)
		}
		c.stop()
	})
}

func TestEnrollmentWaitsForAControllerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t)
		c.set(func() { c.offline = true })
		time.AfterFunc(3*time.Minute, func() { c.set(func() { c.offline = false }) })
		a := newAgent(t, c, newExecutor().kinds()) // fails the test when enrolling fails
		if took := a.options.State; took != nil {
			t.Error("state before the first start")
		}
		c.stop()
	})
}

func TestEnrollmentIsRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, other := newController(t), newController(t)
		a := newAgent(t, c, newExecutor().kinds())
		e := a.enrollment()
		e.IdentityPath = a.path("second.pem")
		c.set(func() { c.enrolls = nil })

		e.Token = other.token // its root is another controller's: our token must not be shown to this one
		if _, err := session.Enroll(t.Context(), e); errs.KindOf(err) != errs.Unauthenticated {
			t.Errorf("a controller with another root: %v", err)
		}
		if len(c.enrolls) != 0 {
			t.Error("the token was sent to a controller that could not prove itself")
		}
		e.Token = c.token
		c.set(func() { c.refuse = fmt.Errorf("join token: was used: %w", errs.Denied) })
		if _, err := session.Enroll(t.Context(), e); errs.KindOf(err) != errs.Denied || !strings.Contains(err.Error(), "was used") {
			t.Errorf("a used token: %v", err)
		}
		c.set(func() { c.refuse = nil; c.token = pki.NewJoinToken(c.root.Certificate()) })
		if _, err := session.Enroll(t.Context(), e); errs.KindOf(err) != errs.Unauthenticated {
			t.Errorf("a forged token: %v", err)
		}
		if _, err := pki.LoadIdentity(e.IdentityPath); errs.KindOf(err) != errs.NotFound {
			t.Errorf("an identity after refusals: %v", err)
		}
		c.stop()
		other.stop()
	})
}

func TestAGuessedNameGivesWayToTheTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t)
		a := newAgent(t, c, newExecutor().kinds())
		e := a.enrollment()
		e.Name, e.Guessed = "some-host", true
		c.set(func() { c.enrolls, c.refuse = nil, fmt.Errorf("token is for another name: %w", errs.Denied) })
		if _, err := session.Enroll(t.Context(), e); errs.KindOf(err) != errs.Denied {
			t.Errorf("refused: %v", err)
		}
		if len(c.enrolls) != 2 || c.enrolls[0].GetName() != "some-host" || c.enrolls[1].GetName() != "" {
			t.Errorf("tries: %v", c.enrolls)
		}
		c.stop()
	})
}
