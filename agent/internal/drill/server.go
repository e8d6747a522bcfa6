package drill

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// How long the first steps of a server may take on a busy host.
const (
	initTime  = 5 * time.Minute
	startTime = 2 * time.Minute
)

// application is what pg_stat_activity shows of our sessions.
const application = "tuskvault drill"

// server is the throw-away PostgreSQL.
type server struct {
	programs postgres.Server
	field    *field
	super    string // the bootstrap superuser
	reader   string // the role of assertions
	password string
	process  *process
	// cfg reaches it as the superuser.
	cfg postgres.Config
}

// newServer names roles that no snapshot has.
func newServer(programs postgres.Server, f *field, id string) *server {
	s := &server{programs: programs, field: f, super: "tuskvault_drill_" + id, reader: "tuskvault_reader_" + id, password: rand.Text()}
	s.cfg = postgres.Config{Name: "of the drill", Host: f.socket, Port: port, User: s.super, Maintenance: "template1", SSLMode: "disable",
		Password: func() (string, error) { return s.password, nil }, ToolDirs: []string{programs.Folder}}
	return s
}

// command prepares a program of the installation, run as the owner, with nothing
// in its environment that could lead it elsewhere.
func (s *server) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + s.programs.Folder + ":/usr/bin:/bin", "HOME=" + s.field.server, "TMPDIR=" + s.field.server}
	cmd.Dir = s.field.server
	child(cmd, s.field.who, syscall.SIGKILL)
	cmd.WaitDelay = stopTime
	return cmd
}

// init makes the data directory. Every session must give the password, which is
// written into a file for initdb alone and is nowhere else on this host.
func (s *server) init(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, initTime, fmt.Errorf("initdb did not end within %s: %w", initTime, errs.Timeout))
	defer cancel()
	file := filepath.Join(s.field.dir, "password")
	if err := os.WriteFile(file, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.field.who.give(file); err != nil {
		return err
	}
	cmd := s.command(ctx, filepath.Join(s.programs.Folder, "initdb"), "-D", s.field.data(), "-U", s.super, "-A", "scram-sha-256",
		"--pwfile", file, "-E", "UTF8", "--locale=C", "--no-sync")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("initdb of PostgreSQL %s: %w: %s", s.programs.Version, err, lastLines(out, 5))
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	text := fmt.Sprintf("local all %s scram-sha-256\nlocal all %s scram-sha-256\n", s.super, s.reader)
	if err := os.WriteFile(s.field.hba(), []byte(text), 0o600); err != nil {
		return err
	}
	return s.field.who.give(s.field.hba())
}

// hba says who may connect.
func (f *field) hba() string { return filepath.Join(f.dir, "hba") }

// start starts the server and waits until it answers.
func (s *server) start(ctx context.Context, set setup) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("PostgreSQL did not answer within %s: %w", startTime, errs.Timeout))
	defer cancel()
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	args := []string{"-D", s.field.data(), "-c", "hba_file=" + s.field.hba()}
	for _, o := range settings(set) {
		args = append(args, "-c", o.name+"="+o.value)
	}
	s.process, err = start(func() *exec.Cmd {
		cmd := s.command(context.WithoutCancel(ctx), filepath.Join(s.programs.Folder, "postgres"), args...) // stop ends it
		cmd.Stdout, cmd.Stderr = log, log
		return cmd
	}, s.field.who)
	if err != nil {
		return err
	}
	s.field.mark.Process = s.process.pid
	if err := s.field.write(); err != nil {
		return err
	}
	return s.answers(ctx)
}

// answers waits until the server does.
func (s *server) answers(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := postgres.ConnectMaintenance(ctx, s.cfg, application)
		if err == nil {
			c.Close(ctx)
			return nil
		}
		select {
		case <-s.process.done:
			return s.ended()
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// ended says why the server is not there any more.
func (s *server) ended() error {
	return fmt.Errorf("the server of the drill has ended: %s: %w", s.tail(), errs.Unsupported)
}

func (s *server) log() string { return filepath.Join(s.field.dir, "log") }

// tail gives the last lines of the server's log.
func (s *server) tail() string {
	f, err := os.Open(s.log())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // was only read
	const most = 8 << 10
	if i, err := f.Stat(); err == nil && i.Size() > most {
		if _, err := f.Seek(-most, 2); err != nil {
			return err.Error()
		}
	}
	b := make([]byte, most)
	n, _ := f.Read(b) // an empty log says nothing
	return lastLines(b[:n], 5)
}

// stop ends the server, if there is one.
func (s *server) stop() {
	if s.process != nil {
		s.process.stop(s.field.data())
	}
}

// exec runs statements in a database as the superuser.
func (s *server) exec(ctx context.Context, c *postgres.Conn, statements ...string) error {
	for _, q := range statements {
		if err := c.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// lastLines gives the end of what a program said, as one line.
func lastLines(b []byte, n int) string {
	lines := strings.FieldsFunc(string(bytes.ToValidUTF8(b, []byte("?"))), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// capped keeps the first bytes that a program writes, and counts no further.
type capped struct {
	kept []byte
	most int
}

// Write never fails: a program must not end because it says much.
func (c *capped) Write(p []byte) (int, error) {
	c.kept = append(c.kept, p[:min(len(p), c.most-len(c.kept))]...)
	return len(p), nil
}

// lines gives the first lines.
func (c *capped) lines(n int) []string {
	var out []string
	for line := range strings.Lines(string(bytes.ToValidUTF8(c.kept, []byte("?")))) {
		if line = strings.TrimSpace(line); line != "" && len(out) < n {
			out = append(out, line)
		}
	}
	return out
}

// exitCode of a program that ran, -1 when it did not or was killed.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}
