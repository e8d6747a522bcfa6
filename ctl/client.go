package ctl

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// client is a connection to the controller of the chosen context.
type client struct {
	conn *grpc.ClientConn
	// context and identity are what it was made with.
	context  access.Context
	identity *pki.Identity

	enroll   tuskvaultv1.EnrollmentServiceClient
	event    tuskvaultv1.EventServiceClient
	fleet    tuskvaultv1.FleetServiceClient
	job      tuskvaultv1.JobServiceClient
	snapshot tuskvaultv1.SnapshotServiceClient
	status   tuskvaultv1.StatusServiceClient

	repository tuskvaultv1.RepositoryServiceClient
}

func (c *client) close() { _ = c.conn.Close() } // nothing is lost with it

// contextsPath is where the contexts are, by flag, environment or default.
func (a *app) contextsPath() (string, error) {
	if a.configPath != "" {
		return a.configPath, nil
	}
	if p := a.Env("TUSKCTL_CONFIG"); p != "" {
		return p, nil
	}
	if x := a.Env("XDG_CONFIG_HOME"); filepath.IsAbs(x) {
		return filepath.Join(x, "tuskctl", "config.yaml"), nil
	}
	home := a.Env("HOME")
	if home == "" {
		return "", fmt.Errorf("find contexts: HOME is not set and no file is named: %w", errs.NotFound)
	}
	return filepath.Join(home, ".config", "tuskctl", "config.yaml"), nil
}

var noContextHints = []string{
	`the controller's init wrote one: run tuskctl with --config STATE_DIR/admin-context.yaml, or set TUSKCTL_CONFIG to that file`,
	`run "tuskctl context add NAME --from FILE" to keep it`,
}

func (a *app) currentContext() (*access.Context, error) {
	path, err := a.contextsPath()
	if err != nil {
		return nil, exit.Hint(err, noContextHints...)
	}
	f, err := access.Load(path)
	if errors.Is(err, errs.NotFound) {
		return nil, exit.Hint(err, noContextHints...)
	} else if err != nil {
		return nil, exit.Hint(err, fmt.Sprintf("look at the file: ls -l %s", path))
	}
	name := a.context
	if name == "" {
		name = a.Env("TUSKCTL_CONTEXT")
	}
	c, err := f.Get(name)
	if err != nil {
		return nil, exit.Hint(err, `run "tuskctl context ls", then "tuskctl context use NAME"`)
	}
	return c, nil
}

func (a *app) dial() (*client, error) {
	c, err := a.currentContext()
	if err != nil {
		return nil, err
	}
	identity, err := pki.ParseIdentity(c.Identity())
	if err != nil {
		return nil, fmt.Errorf("use context %q: %w", c.Name, err)
	}
	if now := a.now(); now.After(identity.Leaf.NotAfter) {
		return nil, exit.Hint(fmt.Errorf("use context %q: its certificate expired on %s: %w", c.Name, identity.Leaf.NotAfter.Local().Format("2006-01-02 15:04"), errs.Unauthenticated),
			"ask an admin for a new context",
			`the admin that init made gets one on the controller's host: run "tuskvault-controller admin-context --state-dir DIR"`)
	}
	config, err := pki.ClientTLS(identity.Root, func() (*tls.Certificate, error) { return identity.TLS(), nil })
	if err != nil {
		return nil, fmt.Errorf("use context %q: %w", c.Name, err)
	}
	conn, err := rpc.Dial(c.Address, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Address, err)
	}
	return &client{
		conn:     conn,
		context:  *c,
		identity: identity,
		enroll:   tuskvaultv1.NewEnrollmentServiceClient(conn),
		event:    tuskvaultv1.NewEventServiceClient(conn),
		fleet:    tuskvaultv1.NewFleetServiceClient(conn),
		job:      tuskvaultv1.NewJobServiceClient(conn),
		snapshot: tuskvaultv1.NewSnapshotServiceClient(conn),
		status:   tuskvaultv1.NewStatusServiceClient(conn),

		repository: tuskvaultv1.NewRepositoryServiceClient(conn),
	}, nil
}

// fileOf gives the file behind a stream, nil when it is none.
func fileOf(w any) *os.File {
	f, _ := w.(*os.File)
	return f
}
