package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tuskvault/tuskvault/agent/internal/drill"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

// Status is how a check of the doctor ended.
type Status string

// The statuses.
const (
	// OK: nothing to do.
	OK Status = "ok"
	// Warn: it works, and something should be mended.
	Warn Status = "warn"
	// Fail: it does not work.
	Fail Status = "fail"
)

// Check is one line of the doctor's report.
type Check struct {
	// Name of what was looked at.
	Name   string
	Status Status
	// Detail is what was found.
	Detail string
	// Fix is what to do, empty when there is nothing.
	Fix string
}

// Times and bounds of the doctor.
const (
	// doctorTimeout bounds the look at one thing.
	doctorTimeout = 30 * time.Second
	// skewWarn and skewFail are differences of clocks. The second is where
	// certificates that were just issued are refused.
	skewWarn = 30 * time.Second
	skewFail = pki.Backdate
	// staleContact is when what a running agent wrote down says nothing any more.
	staleContact = 5 * time.Minute
)

// StateFolder says which folder a configuration asks for.
func StateFolder(c Config) config.Folder {
	return config.Folder{What: "state folder", Path: c.StateDir, Default: DefaultStateDir}
}

// Doctor looks at what the agent needs and calls report for each check as soon
// as it is done. It changes nothing, and may run beside a running agent.
func Doctor(ctx context.Context, c Config, report func(Check)) {
	dir, checks := checkFolder(c)
	for _, check := range checks {
		report(check)
	}
	if dir != "" {
		a := &Agent{config: c, dir: filepath.Join(dir, ownFolder)}
		for _, check := range a.examine(ctx) {
			report(check)
		}
	}
	for _, check := range checkDrills(ctx, c, dir) {
		report(check)
	}
	for _, i := range c.instances() {
		for _, check := range postgres.Doctor(ctx, i) {
			report(Check{Name: i.Name + ": " + check.Name, Status: Status(check.Status), Detail: check.Detail, Fix: check.Fix})
		}
	}
}

// checkDrills tells whether drills can be held, where the configuration allows them.
func checkDrills(ctx context.Context, c Config, dir string) []Check {
	if !slices.Contains(c.Allow, session.AllowDrill) {
		return nil
	}
	c.StateDir = cmp.Or(dir, c.StateDir, DefaultStateDir)
	found := drill.New(drill.Options{Base: c.drillDir(), User: c.Drill.User, MinFree: int64(c.Drill.MinFree), ToolDirs: c.ToolDirs,
		Instances: c.instances(), Log: zap.NewNop()}).Look(ctx)
	if found.Refusal != "" {
		return []Check{{Name: "drills", Status: Warn, Detail: found.Refusal, Fix: `mend that, or take "drill" out of allow:`}}
	}
	if len(found.Servers) == 0 {
		return []Check{{Name: "drills", Status: Warn, Detail: "no server programs found", Fix: `install postgresql-NN here, or take "drill" out of allow:`}}
	}
	var all []Check
	for _, s := range found.Servers {
		check := Check{Name: "drills", Status: OK, Detail: fmt.Sprintf("PostgreSQL %s in %s, %d bytes free", s.Version, s.Folder, found.FreeDiskBytes)}
		if s.Amcheck == "" {
			check.Detail += ", no pg_amcheck"
		}
		all = append(all, check)
	}
	return all
}

// checkFolder looks at the state folder without making it: made by the wrong
// user it would be in the way.
func checkFolder(c Config) (string, []Check) {
	f := StateFolder(c)
	path, ok := f.Existing()
	if !ok {
		return "", []Check{{Name: "state folder", Status: Warn, Detail: "there is none yet", Fix: "tuskvault-agent run makes it"}}
	}
	f.Path = path
	dir, _, err := f.Prepare()
	if err != nil {
		return "", []Check{{Name: "state folder", Status: Fail, Detail: err.Error()}}
	}
	return dir, []Check{{Name: "state folder", Status: OK, Detail: dir}}
}

// examine looks at identity, controller and clock.
func (a *Agent) examine(ctx context.Context) []Check {
	identity, err := pki.LoadIdentity(a.path(identityFile))
	if errors.Is(err, errs.NotFound) {
		return []Check{{Name: "identity", Status: Warn, Detail: "not enrolled yet", Fix: "tuskvault-agent run --controller HOST:PORT --token TOKEN"}}
	} else if err != nil {
		return []Check{{Name: "identity", Status: Fail, Detail: err.Error()}}
	}
	state, err := session.OpenState(a.path(stateFile))
	if err != nil {
		return []Check{{Name: "state", Status: Fail, Detail: err.Error()}}
	}
	facts := state.Facts()
	controller := a.config.Controller
	if controller == "" {
		controller = facts.Controller
	}
	return []Check{certificate(identity, facts.Name, time.Now()), reach(ctx, identity, controller), clock(facts, time.Now())}
}

// certificate checks the life of the certificate.
func certificate(i *pki.Identity, name string, now time.Time) Check {
	c := Check{Name: "certificate", Status: OK, Detail: fmt.Sprintf("%s as %q, valid until %s", i.Peer, name, i.Leaf.NotAfter.UTC().Format(time.RFC3339))}
	switch {
	case now.After(i.Leaf.NotAfter):
		c.Status, c.Fix = Fail, fmt.Sprintf("it has expired: tuskctl agent replace %s, then start with the token it prints", name)
	case now.Before(i.Leaf.NotBefore):
		c.Status, c.Fix = Fail, "it is not valid yet: set this host's clock"
	case now.After(pki.RenewAt(i.Leaf).Add(i.Leaf.NotAfter.Sub(i.Leaf.NotBefore) / 10)):
		c.Status, c.Fix = Warn, "it should have been renewed: look into the agent's log"
	}
	return c
}

// reach connects to the controller with the agent's certificate.
func reach(ctx context.Context, i *pki.Identity, controller string) Check {
	c := Check{Name: "controller", Status: Fail, Detail: controller}
	if controller == "" {
		c.Detail, c.Fix = "no address", "start with --controller HOST:PORT"
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	tls, err := i.ClientTLS()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	conn, err := rpc.Dial(controller, tls)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	began := time.Now()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch {
	case err == nil, errors.Is(err, errs.Unsupported), errors.Is(err, errs.NotFound), errors.Is(err, errs.Denied):
		// Any answer of the controller's own proves the way and the certificates.
		c.Status, c.Detail = OK, fmt.Sprintf("%s answers within %s", controller, time.Since(began).Round(time.Millisecond))
	case errors.Is(err, errs.Unauthenticated):
		c.Detail, c.Fix = controller+": "+err.Error(), "check that this is the controller the agent enrolled at"
	default:
		c.Detail, c.Fix = controller+": "+err.Error(), "check that the controller runs and that this host may connect to it"
	}
	return c
}

// clock tells the skew that the running agent found at its last heartbeat.
func clock(facts session.Facts, now time.Time) Check {
	c := Check{Name: "clock", Status: OK, Detail: fmt.Sprintf("differs by %s from the controller's", facts.Skew.Abs().Round(time.Millisecond))}
	switch {
	case facts.Contact.IsZero() || now.Sub(facts.Contact) > staleContact:
		c.Status, c.Detail, c.Fix = Warn, "not compared lately: the agent compares it while it has a session", "start the agent"
	case facts.Skew.Abs() >= skewFail:
		c.Status, c.Fix = Fail, "set the clock of this host or of the controller"
	case facts.Skew.Abs() >= skewWarn:
		c.Status, c.Fix = Warn, "set the clock of this host or of the controller"
	}
	return c
}
