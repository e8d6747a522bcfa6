package drill

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/report"
)

// amcheckOutput bounds what is kept of pg_amcheck's words.
const amcheckOutput = 16 << 10

// foundDamage is pg_amcheck's exit code for damage.
const foundDamage = 2

// amcheckSchema holds the extension where the database does not have it itself.
const amcheckSchema = "tuskvault_drill"

// amcheck runs pg_amcheck over one database: tables with their TOAST, and btree
// indexes. Where the host or the version does not have it, that is said, and is
// no failure.
func (s *server) amcheck(ctx context.Context, database pg.Name, jobs int, out *report.Database) {
	tool := s.programs.Amcheck
	switch {
	case s.programs.Version.Major() < 14:
		out.Amcheck, out.Output = report.AmcheckNotAvailable, []string{fmt.Sprintf("PostgreSQL %d cannot check tables", s.programs.Version.Major())}
		return
	case tool == "":
		out.Amcheck, out.Output = report.AmcheckNotAvailable, []string{"there is no pg_amcheck in " + s.programs.Folder}
		return
	}
	switch err := s.addAmcheck(ctx, database); {
	case postgres.Code(err) == "0A000" || postgres.Code(err) == "58P01": // not in the installation
		out.Amcheck, out.Output = report.AmcheckNotAvailable, []string{"extension amcheck is not installed: " + err.Error()}
		return
	case err != nil:
		out.Amcheck, out.Output = report.AmcheckFailed, []string{err.Error()}
		return
	}
	conninfo, env, err := s.cfg.ChildEnv(database, application)
	if err != nil {
		out.Amcheck, out.Output = report.AmcheckFailed, []string{err.Error()}
		return
	}
	cmd := s.command(ctx, tool, "--no-password", "--jobs="+strconv.Itoa(jobs), "-h", s.field.socket, "-p", strconv.Itoa(port), "-U", s.super, conninfo)
	cmd.Env = append(cmd.Env, env...)
	said := &capped{most: amcheckOutput}
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	out.Output = said.lines(report.MaxLines)
	switch code := exitCode(err); {
	case ctx.Err() != nil:
		out.Amcheck, out.Output = report.AmcheckFailed, append([]string{context.Cause(ctx).Error()}, out.Output...)
	case code == 0:
		out.Amcheck = report.AmcheckClean
	case code == foundDamage:
		out.Amcheck = report.AmcheckDamaged
	default:
		out.Amcheck, out.Output = report.AmcheckFailed, append([]string{err.Error()}, out.Output...)
	}
}

// addAmcheck makes the extension, unless the database has it.
func (s *server) addAmcheck(ctx context.Context, database pg.Name) error {
	c, err := postgres.Connect(ctx, s.cfg, database, application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := c.Apply(ctx, postgres.LoadSession(c.Version, c.Superuser)); err != nil {
		return err
	}
	var have bool
	if err := c.One(ctx, &have, "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'amcheck')"); err != nil || have {
		return err
	}
	return s.exec(ctx, c, "SET session_replication_role = replica", // event triggers that were restored
		"CREATE SCHEMA IF NOT EXISTS "+amcheckSchema, "CREATE EXTENSION amcheck SCHEMA "+amcheckSchema)
}

// lostServer tells whether the server itself has gone.
func (s *server) lostServer() error {
	select {
	case <-s.process.done:
		return s.ended()
	default:
		return nil
	}
}

// errNoRoom ends a drill that would fill the disk.
type errNoRoom struct{ free, least int64 }

// Error says how much is left.
func (e errNoRoom) Error() string {
	return fmt.Sprintf("stopped: %d bytes are left in the drill folder, %d must stay free", e.free, e.least)
}

// Unwrap gives the kind.
func (errNoRoom) Unwrap() error { return errs.Exhausted }
