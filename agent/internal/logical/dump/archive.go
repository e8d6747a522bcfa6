package dump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Bounds of the pg_dump child.
const (
	// stderrBytes is how much of what pg_dump says is kept.
	stderrBytes = 64 << 10
	// killAfter is what a canceled pg_dump may take to cancel its own query.
	killAfter = 3 * time.Second
)

// readArchive runs pg_dump under the exported snapshot and keeps the schema
// archive. Its exit status and its last byte both count: an archive whose dumper
// failed is none.
func (c *coordinator) readArchive() error {
	d := c.d
	d.setPhase(job.PhaseSchema)
	cut, err := newCutting(&c.run.o, c.run.shared)
	if err != nil {
		return err
	}
	d.lists = c.run.lists.Database()
	w := &archiveWriter{ctx: d.ctx, cut: cut, lists: d.lists.Run(repo.RunOrder{})}
	defer w.abandon()
	said, err := c.dumpSchema(w)
	if err != nil {
		return fmt.Errorf("database %s: %w", d.info.Name.Display(), err)
	}
	if err := w.close(); err != nil {
		return err
	}
	if len(said) > 0 {
		d.warn(repo.Problem{Severity: "warning", Object: "pg_dump", Reason: together(said)})
	}
	format, err := w.format()
	if err != nil {
		return fmt.Errorf("database %s: %s: %w", d.info.Name.Display(), c.run.tool.Path, err)
	}
	d.out.Archive = &repo.Archive{Tool: c.run.tool.Version, FormatVersion: format}
	d.archive = w.lists
	return nil
}

// errQueued tells that a schema change waits for the coordinator's locks, and
// pg_dump for the change: each waits for the next, and only letting the locks go
// lets anybody on.
var errQueued = errors.New("a schema change is queued between the backup's locks and pg_dump's")

// dumpSchema runs the child and returns the lines it wrote to standard error.
func (c *coordinator) dumpSchema(to io.Writer) ([]string, error) {
	conninfo, env, err := c.run.o.Config.ChildEnv(c.d.info.Name, c.run.application("schema"))
	if err != nil {
		return nil, err
	}
	if c.conn.Version.Major() >= 17 && c.conn.Superuser {
		env = append(env, "PGOPTIONS=-c event_triggers=off")
	}
	lockWait := min(oneLockWait, c.run.o.Request.LockWait)
	ctx, cancel := context.WithCancelCause(c.d.ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, c.run.tool.Path, "-Fc", "-Z0", "-B", "--snapshot="+c.d.exported,
		fmt.Sprintf("--lock-wait-timeout=%dms", max(1, lockWait.Milliseconds())), "--no-sync", "--no-password",
		"--section=pre-data", "--section=post-data", "-d", conninfo)
	cmd.Env = append(childEnv(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for us to pass on
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	stderr := &tail{limit: stderrBytes}
	cmd.Stdout, cmd.Stderr = to, stderr
	blocker := c.run.watchBlocker(c.d, 0, func() { cancel(errQueued) })
	defer blocker.stop()
	err = cmd.Run()
	lines := stderr.lines()
	if err == nil {
		return lines, nil
	}
	if c.d.ctx.Err() != nil {
		return nil, context.Cause(c.d.ctx)
	}
	if isUpload(err) {
		return nil, err
	}
	if who := blocker.stop(); errors.Is(context.Cause(ctx), errQueued) {
		return nil, fmt.Errorf("make schema archive: %w: %s: %w", errQueued, who, errs.Busy)
	}
	what := strings.Join(lines, "; ")
	if who := blocker.stop(); who != "" {
		what += " (" + who + ")"
	}
	if strings.Contains(what, "LOCK TABLE") && strings.Contains(what, "timeout") {
		return nil, fmt.Errorf("make schema archive: %s: %w: %s: %w", c.run.tool.Path, err, what, errs.Busy)
	}
	return nil, fmt.Errorf("make schema archive: %s: %w: %s", c.run.tool.Path, err, what)
}

// childEnv is our environment without what changes how a libpq program talks.
func childEnv() []string {
	drop := []string{"PGCLIENTENCODING=", "PGOPTIONS=", "PGDATESTYLE=", "PGTZ=", "PGGEQO=", "PGDATABASE=", "PGPASSWORD=", "PGAPPNAME=", "PGCONNECT_TIMEOUT=",
		"PGHOSTADDR=", "PG_COLOR=", "LC_ALL=", "LC_MESSAGES=", "LANGUAGE="}
	var env []string
next:
	for _, e := range os.Environ() {
		for _, p := range drop {
			if strings.HasPrefix(e, p) {
				continue next
			}
		}
		env = append(env, e)
	}
	return append(env, "LC_MESSAGES=C")
}

// archiveWriter cuts the archive into chunks of fixed lengths.
type archiveWriter struct {
	ctx     context.Context // of one child: the writer lives no longer
	cut     *cutting
	lists   *repo.RunLists
	head    []byte
	buf     []byte
	emitted int
	broken  error // why the output does not begin like an archive
}

// Write takes what pg_dump writes. An error of it ends pg_dump.
func (w *archiveWriter) Write(p []byte) (int, error) {
	if need := pgarchive.HeadSize - len(w.head); need > 0 {
		w.head = append(w.head, p[:min(need, len(p))]...)
	}
	for rest := p; len(rest) > 0; {
		if w.buf == nil {
			buf, err := w.cut.uploader.Buffer(w.ctx)
			if err != nil {
				return 0, upload(err)
			}
			w.buf = buf
		}
		limit := min(w.cut.max, w.cut.cutter.Params().Target)
		n := min(len(rest), limit-len(w.buf))
		w.buf = append(w.buf, rest[:n]...)
		rest = rest[n:]
		if len(w.buf) == limit {
			if err := w.emit(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (w *archiveWriter) emit() error {
	if w.buf == nil {
		return nil
	}
	if w.emitted == 0 {
		// An archive that tells its time would be another one every day, and the chunk
		// list that it shares with small tables too.
		w.broken = pgarchive.Timeless(w.buf) // told by format: what pg_dump says of itself comes first
	}
	e := repo.ListEntry{Kind: seal.KindArchive, Name: w.cut.namer.Name(seal.KindArchive, w.buf), Length: uint32(len(w.buf))}
	buf := w.buf
	w.buf = nil
	w.emitted++
	if err := w.cut.stream.Put(w.ctx, e.Kind, e.Name, buf); err != nil {
		return upload(err)
	}
	return w.lists.Add(w.ctx, e, w.cut.putList)
}

func (w *archiveWriter) close() error {
	if err := w.emit(); err != nil {
		return err
	}
	return w.lists.End(w.ctx, w.cut.putList)
}

func (w *archiveWriter) abandon() {
	if w.buf != nil {
		w.cut.uploader.Release(w.buf)
		w.buf = nil
	}
}

// format reads the archive's version from its header.
func (w *archiveWriter) format() (string, error) {
	if w.emitted == 0 {
		return "", fmt.Errorf("its output is no archive: nothing was written: %w", errs.Corrupt)
	}
	if w.broken != nil {
		return "", fmt.Errorf("its output is no archive: %w", w.broken)
	}
	return fmt.Sprintf("%d.%d", w.head[5], w.head[6]), nil
}

// saidBytes is how much of what pg_dump says goes into one warning: some ten
// lines. A database with many circles of foreign keys has hundreds, and each plan
// of a restore repeats the warning.
const saidBytes = 1000

// together words the lines of a successful pg_dump as one warning.
func together(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		line = strings.TrimSpace(strings.TrimPrefix(line, "pg_dump:"))
		if i > 0 && b.Len()+len(line) > saidBytes {
			fmt.Fprintf(&b, "; and %d more lines", len(lines)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(strings.ToValidUTF8(line[:min(len(line), saidBytes)], "?"))
	}
	return b.String()
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	b     []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) lines() []string {
	var out []string
	for line := range strings.Lines(string(t.b)) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
