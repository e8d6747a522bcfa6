package postgres

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// Defaults of Config.
const (
	// DefaultConnectTimeout bounds one attempt to connect, authentication included.
	DefaultConnectTimeout = 15 * time.Second
	// DefaultMaintenance is the database for what concerns the whole instance.
	DefaultMaintenance = "postgres"
)

// Config says how one instance is reached. Empty fields mean what libpq would
// do: PGHOST, PGPORT, PGUSER, PGSERVICE, PGPASSFILE, PGSSLMODE and so on, then
// the local socket.
type Config struct {
	// Name of the instance within the agent, for example "main".
	Name string
	// Host name, address or folder of the unix socket; one only.
	Host string
	// Port, 0 for libpq's.
	Port int
	// User is the role.
	User string
	// Maintenance is the database for what concerns the whole instance.
	Maintenance string
	// Service is a section of the service file, ServiceFile its path.
	Service, ServiceFile string
	// PassFile is a password file in libpq's format.
	PassFile string
	// Password resolves the reference to the password when a connection is
	// made; nil means PGPASSWORD or the password file. Its result is never kept.
	Password func() (string, error)
	// TLS: as libpq's sslmode, sslrootcert, sslcert, sslkey.
	SSLMode, SSLRootCert, SSLCert, SSLKey string
	// ToolDirs are searched for pg_dump before the usual places.
	ToolDirs []string
	// ConnectTimeout bounds one attempt to connect; 0 means DefaultConnectTimeout.
	ConnectTimeout time.Duration
}

// String names the instance, without anything secret.
func (c Config) String() string { return "instance " + cmp.Or(c.Name, "main") }

// MaintenanceDatabase is the database for what concerns the whole instance.
func (c Config) MaintenanceDatabase() pg.Name {
	return pg.Name(cmp.Or(c.Maintenance, DefaultMaintenance))
}

// Validate tells everything wrong with the configuration that can be told
// without a server. The kind is errs.Invalid.
func (c Config) Validate() error {
	if strings.Contains(c.Host, ",") {
		return fmt.Errorf("%s: host %q: several hosts: a backup must know which server it reads: %w", c, c.Host, errs.Invalid)
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("%s: port %d: %w", c, c.Port, errs.Invalid)
	}
	_, err := c.parse(c.MaintenanceDatabase(), "tuskvault")
	return err
}

// conninfo is the libpq connection string for a database, without the password.
// It is fit for a command line. service tells whether the reader knows the key servicefile.
func (c Config) conninfo(database pg.Name, service bool) string {
	var b strings.Builder
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	add("service", c.Service)
	if service {
		add("servicefile", c.ServiceFile) // libpq knows it from 18 on
	}
	add("host", c.Host)
	if c.Port != 0 {
		add("port", strconv.Itoa(c.Port))
	}
	add("user", c.User)
	add("passfile", c.PassFile)
	add("sslmode", c.SSLMode)
	add("sslrootcert", c.SSLRootCert)
	add("sslcert", c.SSLCert)
	add("sslkey", c.SSLKey)
	add("dbname", string(database))
	return strings.TrimSuffix(b.String(), " ")
}

// parse makes pgconn's configuration, with everything the environment and the
// service file add.
func (c Config) parse(database pg.Name, application string) (*pgconn.Config, error) {
	pc, err := pgconn.ParseConfig(c.conninfo(database, true))
	if err != nil {
		// pgconn's text has the connection string in it, with passwords masked.
		return nil, fmt.Errorf("%s: read connection settings: %w: %w", c, err, errs.Invalid)
	}
	for _, f := range pc.Fallbacks {
		if f.Host != pc.Host || f.Port != pc.Port {
			return nil, fmt.Errorf("%s: hosts %s and %s: a backup must know which server it reads; name one: %w", c, pc.Host, f.Host, errs.Invalid)
		}
	}
	if c.Password != nil {
		if pc.Password, err = c.Password(); err != nil {
			return nil, fmt.Errorf("%s: read password: %w", c, err)
		}
	}
	pc.ConnectTimeout = cmp.Or(c.ConnectTimeout, DefaultConnectTimeout)
	pc.RuntimeParams["application_name"] = application
	// What the environment may ask for would change what rows look like.
	delete(pc.RuntimeParams, "client_encoding")
	pc.DialFunc = dial
	pc.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		// A statement is canceled at the server; a server that does not answer loses the connection.
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: drainTimeout}
	}
	return pc, nil
}

// dial connects with keep-alives: a COPY may be silent for minutes while the
// server reads, and a host that is gone must be noticed.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	return d.DialContext(ctx, network, address)
}

// ChildEnv gives what a libpq program needs to reach a database the way Connect
// does: a connection string for its arguments, with no secret in it, and
// variables to add to its environment.
func (c Config) ChildEnv(database pg.Name, application string) (conninfo string, env []string, err error) {
	pc, err := c.parse(database, application)
	if err != nil {
		return "", nil, err
	}
	resolved := c
	resolved.Host, resolved.Port, resolved.User = pc.Host, int(pc.Port), pc.User
	if c.ServiceFile != "" {
		env = append(env, "PGSERVICEFILE="+c.ServiceFile)
	}
	if pc.Password != "" {
		env = append(env, "PGPASSWORD="+pc.Password)
	}
	seconds := max(2, int(pc.ConnectTimeout/time.Second))
	return resolved.conninfo(database, false), append(env, "PGAPPNAME="+application, "PGCONNECT_TIMEOUT="+strconv.Itoa(seconds)), nil
}
