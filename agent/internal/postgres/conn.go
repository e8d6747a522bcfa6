package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// CloseTimeout bounds the good-bye to a server: after it the socket is just closed.
const CloseTimeout = 3 * time.Second

// Conn is one session, in one database, whose timeouts are off. It is for one
// goroutine at a time, except Cancel.
type Conn struct {
	// Version of the server.
	Version pg.Version
	// Superuser tells whether the session's role is one.
	Superuser bool
	// Database is where the session is.
	Database pg.Name

	instance string
	pc       *pgconn.PgConn // nil when the connection is lost
	types    *pgtype.Map
	buf      []byte // CopyOut's, made when first needed
}

// Connect opens a session in a database and turns its timeouts off. application
// is what pg_stat_activity shows. The error has a kind: errs.Denied for a wrong
// password or a missing right, errs.NotFound for a database that does not
// exist, errs.Unavailable for a server that cannot be reached or is starting,
// errs.Busy for one that has no connection left, errs.Invalid for settings that
// make no sense, TLS among them. Hint(err) may say what to do.
func Connect(ctx context.Context, cfg Config, database pg.Name, application string) (*Conn, error) {
	pc, err := cfg.parse(database, application)
	if err != nil {
		return nil, err
	}
	raw, err := pgconn.ConnectConfig(ctx, pc)
	if err != nil && letIn(err) {
		// A login trigger (17 and later) may keep everybody out but a superuser who
		// asks for none. If that is no help either, what it was first is told.
		pc.RuntimeParams["options"] = strings.TrimSpace(pc.RuntimeParams["options"] + " -c event_triggers=off")
		if again, e := pgconn.ConnectConfig(ctx, pc); e == nil {
			raw, err = again, nil
		}
	}
	if err != nil {
		return nil, connectError(ctx, cfg, database, pc, err)
	}
	c := &Conn{Database: database, instance: cfg.String(), pc: raw, types: pgtype.NewMap()}
	if err := c.begin(ctx); err != nil {
		c.Close(ctx)
		return nil, fmt.Errorf("connect to database %s of %s: %w", database.Display(), cfg, err)
	}
	return c, nil
}

// letIn tells that the server knew the role and the database and refused the
// session for another reason than its own state: that may be a login trigger.
func letIn(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "28", "3D", "53", "57":
		return false
	}
	return true
}

func (c *Conn) begin(ctx context.Context) error {
	if err := c.Exec(ctx, noTimeouts); err != nil {
		return err
	}
	c.Superuser = c.pc.ParameterStatus("is_superuser") == "on"
	var v string
	if err := c.One(ctx, &v, "SELECT pg_catalog.current_setting('server_version_num')"); err != nil {
		return err
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("server_version_num %q: %w", v, errs.Unsupported)
	}
	c.Version = pg.Version(n)
	return nil
}

// PgConn is the protocol connection under the session, for what this package
// has no words for (COPY FROM). It changes with each CopyOut: do not keep it.
// It is nil when the connection is lost.
func (c *Conn) PgConn() *pgconn.PgConn { return c.pc }

// Lost tells whether the connection can no longer be used.
func (c *Conn) Lost() bool { return c.pc == nil || c.pc.IsClosed() }

// Local tells whether the session goes over a Unix socket: the server is on this host.
func (c *Conn) Local() bool {
	return c.pc != nil && c.pc.Conn().RemoteAddr().Network() == "unix"
}

// PID is the server's process of the session, 0 when the connection is lost.
func (c *Conn) PID() uint32 {
	if c.pc == nil {
		return 0
	}
	return c.pc.PID()
}

// InTransaction tells whether a transaction is open, failed or not.
func (c *Conn) InTransaction() bool { return c.pc != nil && c.pc.TxStatus() != 'I' }

// Parameter gives what the server reported of itself, for example
// "server_encoding".
func (c *Conn) Parameter(name string) string {
	if c.pc == nil {
		return ""
	}
	return c.pc.ParameterStatus(name)
}

// Exec runs one or several statements without parameters and throws rows away.
func (c *Conn) Exec(ctx context.Context, sql string) error {
	if c.pc == nil {
		return c.lostError()
	}
	r := c.pc.Exec(ctx, sql)
	for r.NextResult() {
		if _, err := r.ResultReader().Close(); err != nil {
			break // Close of the whole tells it too
		}
	}
	return c.wrap(ctx, r.Close())
}

// Run runs one statement with parameters and throws rows away.
func (c *Conn) Run(ctx context.Context, sql string, args ...any) error {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	rows.Close()
	return c.wrap(ctx, rows.Err())
}

// Query runs one statement. Values come and go as text. Arguments may be
// strings, pg.Name, byte slices (given as they are), integers and booleans.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if c.pc == nil {
		return nil, c.lostError()
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		v, err := textValue(a)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return pgx.RowsFromResultReader(c.types, c.pc.ExecParams(ctx, sql, values, nil, nil, nil)), nil
}

// Each runs a query and calls fn for each row, after scanning it into dest.
func (c *Conn) Each(ctx context.Context, sql string, args []any, dest []any, fn func() error) error {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, dest, fn)
	return c.wrap(ctx, err)
}

// One runs a query that gives exactly one value and scans it into dest.
func (c *Conn) One(ctx context.Context, dest any, sql string, args ...any) error {
	n := 0
	err := c.Each(ctx, sql, args, []any{dest}, func() error { n++; return nil })
	if err == nil && n != 1 {
		return fmt.Errorf("query gave %d rows, not one: %s", n, sql)
	}
	return err
}

// Cancel asks the server to cancel what the session is doing. It may be called
// from another goroutine.
func (c *Conn) Cancel(ctx context.Context) error {
	if c.pc == nil {
		return c.lostError()
	}
	return c.pc.CancelRequest(ctx)
}

// Close ends the session, also when ctx has ended already: a transaction left
// open holds back vacuum on the server, so the good-bye is always said.
func (c *Conn) Close(ctx context.Context) {
	if c.pc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), CloseTimeout)
	defer cancel()
	_ = c.pc.Close(ctx) // the socket is closed whatever the server answers
	select {
	case <-c.pc.CleanupDone():
	case <-ctx.Done():
	}
	c.pc = nil
}

func (c *Conn) lostError() error {
	return fmt.Errorf("%s, database %s: connection lost: %w", c.instance, c.Database.Display(), errs.Unavailable)
}

// wrap gives an error of the server its kind, and a cancellation its cause.
func (c *Conn) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return classify(err)
}

func textValue(a any) ([]byte, error) {
	switch v := a.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case pg.Name:
		return []byte(v), nil
	case []byte:
		return v, nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case uint32:
		return strconv.AppendUint(nil, uint64(v), 10), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	}
	return nil, fmt.Errorf("query argument of type %T: %w", a, errs.Invalid)
}

// address is where a configuration leads, for people.
func address(pc *pgconn.Config) string {
	network, addr := pgconn.NetworkAddress(pc.Host, pc.Port)
	if network == "unix" {
		return "socket " + addr
	}
	return net.JoinHostPort(pc.Host, strconv.Itoa(int(pc.Port)))
}
