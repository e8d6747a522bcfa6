package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Superuser is the name of the role that initdb makes.
const Superuser = "postgres"

// How long the steps of a server's life may take on a busy machine.
const (
	initTime  = 2 * time.Minute
	startTime = time.Minute
	stopTime  = 2 * time.Minute
)

// Options say what kind of server is wanted. The zero value is right for most tests.
type Options struct {
	// Bin is the folder of the server programs; empty means what Find returns.
	Bin string
	// Parent is the folder in which the server's own folder is made; empty
	// means the system's temporary folder. Unix sockets need short paths.
	Parent string
	// Password of the superuser. With one, every connection must give it
	// (scram-sha-256); without, everybody on this machine is trusted.
	Password string
	// Fsync turns fsync, full page writes and synchronous commit on, as in
	// production. They are off by default.
	Fsync bool
	// Settings of the server, by name; they win over ours.
	Settings map[string]string
	// InitArgs are more arguments for initdb.
	InitArgs []string
	// Data is a data directory to begin with a copy of; its server must be stopped.
	Data string
	// Primary makes the server a streaming standby of another.
	Primary *Server
	// Extensions are files to add to the server's extension folder, by file
	// name, for example "thing.control" and "thing--1.0.sql". The installation
	// itself is not touched.
	Extensions map[string]string
}

// Server is a running server. Its methods may be called by several goroutines,
// except Stop, Crash, Start and Close.
type Server struct {
	// Bin is the folder of the server programs, and of the client programs where installed.
	Bin string
	// Dir holds everything of this server, including its socket.
	Dir string
	// Data is the data directory.
	Data string
	// Port is the TCP port on 127.0.0.1 and the number in the socket's name.
	Port int
	// Password of the superuser, or empty.
	Password string

	opts  Options
	cred  *syscall.Credential
	guard *guard
}

// Open starts a server for programs; tests use Start. The caller must Close it;
// if this process dies before, the server is removed all the same.
func Open(ctx context.Context, opts Options) (*Server, error) {
	s := &Server{Bin: opts.Bin, Password: opts.Password, opts: opts}
	var err error
	if s.Bin == "" {
		if s.Bin, err = Find(); err != nil {
			return nil, err
		}
	}
	if s.cred, err = owner(); err != nil {
		return nil, err
	}
	if s.Dir, err = s.makeDir(opts.Parent); err != nil {
		return nil, err
	}
	s.Data = filepath.Join(s.Dir, "data")
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	program := filepath.Join(s.Bin, "postgres")
	if len(s.opts.Extensions) > 0 {
		var err error
		if program, err = s.privateInstallation(ctx); err != nil {
			return err
		}
	}
	if err := s.makeData(ctx); err != nil {
		return err
	}
	// Another process can take the free port between our look and the server's
	// bind, so a few ports are tried.
	var err error
	for range 5 {
		if s.Port, err = freePort(); err != nil {
			return err
		}
		if s.guard, err = startGuard(s.Dir, s.cred, append([]string{program}, s.args()...)); err != nil {
			return err
		}
		if err = s.Start(ctx); err == nil || !strings.Contains(s.Log(), "could not bind") {
			return err
		}
		if e := errors.Join(s.guard.tell("keep"), s.guard.leave()); e != nil {
			return errors.Join(err, e)
		}
	}
	return err
}

// makeDir makes the server's folder, short enough for a socket in it.
func (s *Server) makeDir(parent string) (string, error) {
	const longest = 80 // sun_path holds 108 bytes; the socket's name takes up to 16 and a slash
	if parent == "" && len(os.TempDir()) > longest-20 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "tuskvault-pg-")
	if err != nil {
		return "", fmt.Errorf("make server folder: %w", err)
	}
	if len(dir) > longest {
		return "", errors.Join(fmt.Errorf("make server folder %s: too long for a unix socket in it: %w", dir, errs.Invalid), os.Remove(dir))
	}
	return dir, s.give(dir)
}

// give makes a file belong to the identity of the server.
func (s *Server) give(path string) error {
	if s.cred == nil {
		return nil
	}
	return os.Chown(path, int(s.cred.Uid), int(s.cred.Gid))
}

func (s *Server) makeData(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, initTime)
	defer cancel()
	if s.opts.Data != "" {
		return s.copyData(ctx)
	}
	if p := s.opts.Primary; p != nil {
		cmd := s.command(ctx, "pg_basebackup", "-D", s.Data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h", p.Dir,
			"-p", fmt.Sprint(p.Port), "-U", Superuser)
		cmd.Env = append(cmd.Env, "PGPASSWORD="+p.Password)
		return run(cmd)
	}
	args := []string{"-D", s.Data, "-U", Superuser, "--no-sync", "-E", "UTF8", "--locale=C"}
	if s.Password == "" {
		args = append(args, "-A", "trust")
	} else {
		file := filepath.Join(s.Dir, "password")
		if err := os.WriteFile(file, []byte(s.Password+"\n"), 0o600); err != nil {
			return err
		}
		if err := s.give(file); err != nil {
			return err
		}
		args = append(args, "-A", "scram-sha-256", "--pwfile", file)
	}
	return run(s.command(ctx, "initdb", append(args, s.opts.InitArgs...)...))
}

// command prepares a program of the installation, run as the server's identity
// and without the caller's PG* variables.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, name), args...)
	cmd.Env = cleanEnv()
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// args are the server's arguments. Everything is given there rather than in the
// file, so that a standby does not inherit the port of its primary.
func (s *Server) args() []string {
	set := map[string]string{
		"listen_addresses": "127.0.0.1", "port": fmt.Sprint(s.Port), "unix_socket_directories": s.Dir,
		"max_connections": "100", "shared_buffers": "64MB", "max_wal_size": "1GB", "timezone": "UTC", "log_timezone": "UTC",
		"log_min_messages": "warning",
	}
	if !s.opts.Fsync {
		set["fsync"], set["full_page_writes"], set["synchronous_commit"] = "off", "off", "off"
	}
	maps.Copy(set, s.opts.Settings)
	args := []string{"-D", s.Data}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", k+"="+set[k])
	}
	return args
}

// Start starts a server that was stopped, and waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := s.guard.tell("start"); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgconn.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		if ctx.Err() != nil || !s.guard.alive() {
			return fmt.Errorf("start PostgreSQL: %w; its log: %s", err, s.Log())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Stop ends the server in an orderly way, as "pg_ctl stop -m fast"; Start starts it again.
func (s *Server) Stop() error { return s.guard.tell("stop") }

// Crash ends the server at once, as "pg_ctl stop -m immediate"; Start recovers it.
func (s *Server) Crash() error { return s.guard.tell("crash") }

// Close stops the server and removes its folder.
func (s *Server) Close() error {
	var err error
	if s.guard != nil {
		err = s.guard.leave()
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// Log gives the end of what the server wrote.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-8192):])
}

// URL gives a connection string for a database over the unix socket.
func (s *Server) URL(database string) string { return s.dsn(s.Dir, Superuser, s.Password, database) }

// TCP gives a connection string for a database over 127.0.0.1.
func (s *Server) TCP(database string) string {
	return s.dsn("127.0.0.1", Superuser, s.Password, database)
}

// As gives a connection string over the unix socket for another role.
func (s *Server) As(role, password, database string) string {
	return s.dsn(s.Dir, role, password, database)
}

func (s *Server) dsn(host, user, password, database string) string {
	v := func(x string) string { return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(x) + `'` }
	d := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", v(host), s.Port, v(user), v(database))
	if password != "" {
		d += " password=" + v(password)
	}
	return d
}

// Env gives the PG* variables by which libpq and our own programs reach a
// database as the superuser.
func (s *Server) Env(database string) []string {
	env := []string{"PGHOST=" + s.Dir, fmt.Sprintf("PGPORT=%d", s.Port), "PGUSER=" + Superuser, "PGDATABASE=" + database}
	if s.Password != "" {
		env = append(env, "PGPASSWORD="+s.Password)
	}
	return env
}

// cleanEnv is our environment without what would redirect a PostgreSQL program.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PG") && !strings.HasPrefix(e, "LC_") && !strings.HasPrefix(e, "LANG") {
			env = append(env, e)
		}
	}
	return append(env, "LC_ALL=C")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
