package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/version"
)

// Names below the state folder.
const (
	ownFolder     = "agent"
	lockFile      = "lock"
	identityFile  = "identity.pem"
	stateFile     = "state.json"
	journalFolder = "journal"
)

// dataIdle is when an unused data connection is closed, so that the next job
// connects with the newest certificate.
const dataIdle = time.Minute

// Agent is one agent.
type Agent struct {
	config Config
	dir    string
	logs   *logging.Logging
	log    *zap.Logger
	// dial has further options of connections, for tests.
	dial []grpc.DialOption
}

// New prepares an agent. StateDir of the configuration must be a folder that
// config.Folder has prepared. Nothing runs, and nothing is written, before Run.
func New(c Config, logs *logging.Logging) (*Agent, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.StateDir == "" {
		return nil, fmt.Errorf("agent: no state folder: %w", errs.Invalid)
	}
	return &Agent{config: c, dir: filepath.Join(c.StateDir, ownFolder), logs: logs, log: logs.Log.Named("agent")}, nil
}

// Run is the agent's life. In this order: the lock on the state folder, the
// identity (enrolled if there is none), the removal of what drills have left, the session; the reverse at the end. It
// returns nil when ctx ended it.
func (a *Agent) Run(ctx context.Context) error {
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	state, err := session.OpenState(a.path(stateFile))
	if err != nil {
		return err
	}
	identity, controller, err := a.identity(ctx, state)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	jobs, err := journal.Open(a.path(journalFolder))
	if err != nil {
		return err
	}
	holder := pki.NewHolder(identity)
	data, err := a.dataConnection(holder, controller)
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // nothing is lost with it

	drills := ground(&a.config, data, holder, a.log)
	defer drills.Close()
	// Before any work: what a drill that was cut off has left may hold memory and disk.
	if err := drills.Clear(); err != nil {
		a.log.Error("what drills have left is not all removed", zap.Error(err))
	}
	instances := a.config.instances()
	var names []string
	for _, i := range instances {
		names = append(names, i.Name)
	}
	client := session.New(session.Options{
		Controller: controller, Dial: a.dial, Identity: holder, IdentityPath: a.path(identityFile), State: state, Journal: jobs,
		Inventor:  inventor{instances: instances, toolDirs: a.config.ToolDirs, dir: a.dir, drills: drills},
		Executors: executors(&a.config, data, drills), Allow: a.config.Allow, Instances: names, Workers: a.config.Workers,
		Orphan: a.config.OrphanTimeout, SetLogLevel: a.logs.SetLevel, Build: version.Get(), Log: a.log,
	})
	a.log.Info("starting agent", zap.String("version", version.Get().String()), zap.Strings("instances", names),
		zap.Strings("allow", a.config.Allow), logging.Folder(a.config.StateDir), logging.Address(controller))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.logs.Run(gctx) })
	g.Go(func() error { return client.Run(gctx) })
	err = g.Wait()
	a.log.Info("agent stopped", zap.Error(err))
	return err
}

// path gives a name below the agent's own folder.
func (a *Agent) path(name string) string { return filepath.Join(a.dir, name) }

// lock makes sure that only one agent works in the folder. The lock goes with the process.
func (a *Agent) lock() (unlock func(), err error) {
	if err := os.Mkdir(a.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("prepare state folder: %w", err)
	}
	unlock, err = durable.Lock(a.path(lockFile))
	if errors.Is(err, errs.Busy) {
		return nil, fmt.Errorf("lock state folder %s: another agent runs in it: %w", a.config.StateDir, errs.Busy)
	} else if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	return unlock, nil
}

// dataConnection is for chunks. It is not the session's, so that bulk data in
// its buffers never stands before a heartbeat.
func (a *Agent) dataConnection(identity *pki.Holder, controller string) (*grpc.ClientConn, error) {
	config, err := identity.ClientTLS()
	if err != nil {
		return nil, err
	}
	return rpc.Dial(controller, config, append([]grpc.DialOption{grpc.WithIdleTimeout(dataIdle)}, a.dial...)...)
}

// identity gives the agent's identity and the controller's address, enrolling
// when there is no identity, when the one there is has expired, or when a token
// was given that has not been used here.
func (a *Agent) identity(ctx context.Context, state *session.State) (*pki.Identity, string, error) {
	facts := state.Facts()
	controller := a.config.Controller
	if controller == "" {
		controller = facts.Controller
	}
	have, err := pki.LoadIdentity(a.path(identityFile))
	if err != nil && !errors.Is(err, errs.NotFound) {
		return nil, "", err
	}
	if a.config.Token.IsZero() {
		switch {
		case have == nil:
			return nil, "", fmt.Errorf("this agent is not enrolled: start it once with --controller HOST:PORT and --token TOKEN: %w", errs.Unauthenticated)
		case time.Now().After(have.Leaf.NotAfter):
			return nil, "", fmt.Errorf("certificate expired at %s: get a new token by \"tuskctl agent replace %s\" and start with it: %w",
				have.Leaf.NotAfter.UTC().Format(time.RFC3339), facts.Name, errs.Unauthenticated)
		case controller == "":
			return nil, "", fmt.Errorf("controller: no address; start with --controller HOST:PORT: %w", errs.Invalid)
		}
		return have, controller, nil
	}
	if have != nil {
		return a.reenroll(ctx, state, have, controller)
	}
	fresh, err := a.enroll(ctx, state, controller)
	return fresh, controller, err
}

// reenroll uses a token although there is an identity, unless it is the one that
// the identity came from. A token that the controller refuses does no harm while
// the identity is good: a unit file may go on naming a token long used.
func (a *Agent) reenroll(ctx context.Context, state *session.State, have *pki.Identity, controller string) (*pki.Identity, string, error) {
	token, err := a.token()
	if err != nil {
		if time.Now().Before(have.Leaf.NotAfter) && controller != "" {
			a.log.Warn("join token ignored, the agent is enrolled", zap.Error(err))
			return have, controller, nil
		}
		return nil, "", err
	}
	if pki.FingerprintOf(have.Root) != token.Root {
		return nil, "", fmt.Errorf("join token %s: is of another controller than the one that this agent is enrolled at; use another --state-dir: %w", token.ID, errs.Conflict)
	}
	if state.Facts().Token == token.ID.String() && time.Now().Before(have.Leaf.NotAfter) {
		return have, controller, nil
	}
	fresh, err := a.enroll(ctx, state, controller)
	if err != nil && ctx.Err() == nil && time.Now().Before(have.Leaf.NotAfter) {
		a.log.Warn("join token not used, the agent keeps its identity", zap.Error(err))
		return have, controller, nil
	}
	return fresh, controller, err
}

// token reads the join token.
func (a *Agent) token() (pki.JoinToken, error) {
	text, err := a.config.Token.Value()
	if err != nil {
		return pki.JoinToken{}, err
	}
	return pki.ParseJoinToken(text)
}

// enroll gets an identity.
func (a *Agent) enroll(ctx context.Context, state *session.State, controller string) (*pki.Identity, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	if controller == "" {
		return nil, fmt.Errorf("controller: enrolling needs --controller HOST:PORT: %w", errs.Invalid)
	}
	name, err := a.config.name()
	if err != nil {
		return nil, err
	}
	return session.Enroll(ctx, session.Enrollment{Controller: controller, Dial: a.dial, Token: token, Name: name, Guessed: a.config.Name == "",
		Build: version.Get(), IdentityPath: a.path(identityFile), State: state, Log: a.log})
}
