package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/agent"
	"github.com/tuskvault/tuskvault/agent/internal/session/sessiontest"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newConfig is that of an agent whose one instance is away.
func newConfig(t *testing.T) agent.Config {
	t.Helper()
	c := agent.DefaultConfig()
	c.StateDir = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Instances = []agent.InstanceConfig{{Name: "main", Host: t.TempDir(), User: "nobody"}}
	return c
}

// inline is a token given by hand.
func inline(text string) config.OneTime { return config.OneTime{Secret: config.InlineSecret(text)} }

// start runs an agent; stop ends it and gives what Run returned.
func start(t *testing.T, c agent.Config) (stop func() error) {
	t.Helper()
	logs, err := logging.New(logging.Options{Output: t.Output(), Level: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(c, logs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() error {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("the agent does not stop")
			return nil
		}
	}
}

// run runs an agent that is to fail by itself.
func run(t *testing.T, c agent.Config) error {
	t.Helper()
	logs, err := logging.New(logging.Options{Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(c, logs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = a.Run(ctx)
	if ctx.Err() != nil {
		t.Fatal("the agent goes on")
	}
	return err
}

// session waits for a session.
func session(t *testing.T, c *sessiontest.Controller) {
	t.Helper()
	select {
	case h := <-c.Hellos:
		if i := h.GetInventory().GetInstances(); len(i) != 1 || i[0].GetName() != "main" || i[0].GetReachable() || i[0].GetError() == "" {
			t.Errorf("instances %v, want one that is away and says why", i)
		}
		if h.GetBuild().GetCapability() == 0 || len(h.GetAllow()) != 3 {
			t.Errorf("hello %v", h)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no session")
	}
}

func TestAnAgentEnrollsOnceAndThenComesByItself(t *testing.T) {
	controller := sessiontest.Start(t)
	c := newConfig(t)
	c.Controller, c.Token, c.Name = controller.Addr, inline(controller.Token()), "db1"
	stop := start(t, c)
	session(t, controller)
	if err := run(t, c); !errors.Is(err, errs.Busy) {
		t.Errorf("a second agent in the same folder: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A unit file goes on naming the used token.
	stop = start(t, c)
	session(t, controller)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// And an address is not needed any more.
	c.Controller, c.Token = "", config.OneTime{}
	stop = start(t, c)
	session(t, controller)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := controller.Enrolls(); n != 1 {
		t.Errorf("enrolled %d times", n)
	}
	for _, name := range []string{"identity.pem", "state.json", "lock"} {
		info, err := os.Stat(filepath.Join(c.StateDir, "agent", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestAnotherTokenEnrollsAnewAndABadOneDoesNoHarm(t *testing.T) {
	controller := sessiontest.Start(t)
	c := newConfig(t)
	first := controller.Token()
	c.Controller, c.Token, c.Name = controller.Addr, inline(first), "db1"
	path := filepath.Join(c.StateDir, "agent", "identity.pem")
	var identities []string
	for _, token := range []string{first, controller.Token(), first, "rubbish"} {
		c.Token = inline(token)
		stop := start(t, c)
		session(t, controller)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		identities = append(identities, string(b))
	}
	if identities[0] == identities[1] {
		t.Error("a new token gave no new identity")
	}
	if identities[1] != identities[2] || identities[2] != identities[3] {
		t.Error("a bad token changed the identity")
	}
	other := sessiontest.Start(t)
	c.Token = inline(other.Token())
	if err := run(t, c); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("another controller's token: %v", err)
	}
}

func TestWithoutIdentityAnAgentSaysWhatItNeeds(t *testing.T) {
	controller := sessiontest.Start(t)
	c := newConfig(t)
	if err := run(t, c); !errors.Is(err, errs.Unauthenticated) || !strings.Contains(err.Error(), "--token") {
		t.Errorf("nothing given: %v", err)
	}
	c.Token = inline(controller.Token())
	if err := run(t, c); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "--controller") {
		t.Errorf("no address: %v", err)
	}
	c.Controller, c.Token = controller.Addr, inline("tv1.rubbish")
	if err := run(t, c); !errors.Is(err, errs.Invalid) {
		t.Errorf("rubbish: %v", err)
	}
	used := controller.Token()
	c.Token, c.Name = inline(used), "db1"
	stop := start(t, c)
	session(t, controller)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.StateDir = t.TempDir()
	if err := run(t, c); !errors.Is(err, errs.Denied) {
		t.Errorf("a used token: %v", err)
	}
}

func TestADamagedIdentityOrStateIsRefusedByName(t *testing.T) {
	for _, name := range []string{"identity.pem", "state.json"} {
		c := newConfig(t)
		if err := os.Mkdir(filepath.Join(c.StateDir, "agent"), 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(c.StateDir, "agent", name)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t, c); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllProblemsOfAConfigurationAreTold(t *testing.T) {
	c := agent.DefaultConfig()
	c.StateDir, c.Controller, c.Name, c.Workers, c.OrphanTimeout, c.TransferMemory = t.TempDir(), "nowhere", "a b", 0, time.Second, 1
	c.Allow = []string{"backup", "everything"}
	c.Instances = []agent.InstanceConfig{{Name: "main"}, {Name: "main"}, {Name: "a/b"}, {Name: "p", Port: 70000}}
	logs, err := logging.New(logging.Options{Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.New(c, logs)
	if !errors.Is(err, errs.Invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{`controller "nowhere"`, `name "a b"`, "workers: 0", "orphan_timeout: 1s", "transfer_memory: 1", `allow: "everything"`,
		`entry 2: name "main" is there twice`, `entry 3: name "a/b"`, "port 70000"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
}

func TestTheDoctorTellsOneLineForEachThing(t *testing.T) {
	controller := sessiontest.Start(t)
	c := newConfig(t)
	c.Controller, c.Token, c.Name = controller.Addr, inline(controller.Token()), "db1"
	look := func(c agent.Config) map[string]agent.Check {
		out := map[string]agent.Check{}
		agent.Doctor(t.Context(), c, func(check agent.Check) { out[check.Name] = check })
		return out
	}
	if got := look(c); got["identity"].Status != agent.Warn || !strings.Contains(got["identity"].Fix, "--token") || got["main: connection"].Status != agent.Fail {
		t.Errorf("before enrolling: %+v", got)
	}
	stop := start(t, c)
	session(t, controller)
	for range 2 { // at the second, the answer to the first has been taken
		<-controller.Beats
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := look(c); got["certificate"].Status != agent.OK || got["controller"].Status != agent.OK || got["clock"].Status != agent.OK || got["state folder"].Status != agent.OK {
		t.Errorf("enrolled: %+v", got)
	}
	away := c
	away.Controller = "127.0.0.1:1"
	if got := look(away)["controller"]; got.Status != agent.Fail || got.Fix == "" {
		t.Errorf("controller away: %+v", got)
	}
	other := c
	other.Controller = sessiontest.Start(t).Addr
	if got := look(other)["controller"]; got.Status != agent.Fail || !strings.Contains(got.Detail, "not our controller") {
		t.Errorf("another controller: %+v", got)
	}
	if err := os.Chmod(c.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := look(c)["state folder"]; got.Status != agent.Fail || !strings.Contains(got.Detail, "chmod 700") {
		t.Errorf("open folder: %+v", got)
	}
	missing := c
	missing.StateDir = filepath.Join(t.TempDir(), "none")
	if got := look(missing)["state folder"]; got.Status != agent.Warn {
		t.Errorf("no folder: %+v", got)
	}
	if _, err := os.Stat(missing.StateDir); err == nil {
		t.Error("the doctor made a folder")
	}
}
