package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/report"
)

// Bounds of one assertion.
const (
	// assertionTime is the longest that a query may run.
	assertionTime = "10min"
	// valueBytes is the longest value that is looked at.
	valueBytes = 64 << 10
	// boolean is the type of a condition.
	boolean = 16
)

// makeReader makes the role of assertions. It may read whatever there is and
// nothing else: what an operator sends must not become a program on this host,
// which a superuser's query can.
func (s *server) makeReader(ctx context.Context, c *postgres.Conn) error {
	role := pg.Name(s.reader).Quote()
	statements := []string{"CREATE ROLE " + role + " LOGIN BYPASSRLS NOSUPERUSER PASSWORD " + pg.Name(s.password).Literal()}
	if s.programs.Version.Major() >= 14 {
		statements = append(statements, "GRANT pg_read_all_data TO "+role)
	}
	return s.exec(ctx, c, statements...)
}

// letIn lets our sessions into a restored database, whatever it says of itself,
// and the reader read it.
func (s *server) letIn(ctx context.Context, database pg.Name) error {
	c, err := postgres.ConnectMaintenance(ctx, s.cfg, application)
	if err != nil {
		return err
	}
	name := database.Quote()
	err = s.exec(ctx, c, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true CONNECTION LIMIT -1", "GRANT CONNECT ON DATABASE "+name+" TO "+pg.Name(s.reader).Quote())
	c.Close(ctx)
	if err != nil || s.programs.Version.Major() >= 14 {
		return err
	}
	if c, err = postgres.Connect(ctx, s.cfg, database, application); err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := c.Apply(ctx, postgres.LoadSession(c.Version, c.Superuser)); err != nil {
		return err
	}
	role := pg.Name(s.reader).Quote()
	return s.exec(ctx, c, `DO $do$ DECLARE s name; BEGIN FOR s IN SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' LOOP
		EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO `+role+`', s);
		EXECUTE pg_catalog.format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO `+role+`', s);
		EXECUTE pg_catalog.format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO `+role+`', s);
	END LOOP; END $do$`)
}

// assert runs one assertion.
func (s *server) assert(ctx context.Context, database pg.Name, a job.Assertion) report.Assertion {
	out := report.Assertion{Name: a.Name, SQL: a.SQL, Result: report.AssertionFailed}
	value, isBool, err := s.ask(ctx, database, a.SQL)
	switch {
	case ctx.Err() != nil:
		out.Result, out.Detail = report.AssertionNotRun, context.Cause(ctx).Error()
	case err != nil:
		out.Detail = err.Error()
	case a.Expect != "" && value != nil && *value == a.Expect, a.Expect == "" && isBool && value != nil && *value == "t":
		out.Result, out.Detail = report.Holds, show(value)
	case a.Expect == "" && !isBool:
		out.Detail = "it gave " + show(value) + ", which is no boolean; give the value that is expected"
	case a.Expect != "":
		out.Result, out.Detail = report.DoesNotHold, "it gave "+show(value)+", expected "+show(&a.Expect)
	default:
		out.Result, out.Detail = report.DoesNotHold, "it gave "+show(value)
	}
	return out
}

func show(value *string) string {
	if value == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", *value)
}

// errTooMany ends a COPY that gave a second row.
var errTooMany = errors.New("it gave more than one row")

// ask runs a query as the reader and gives its one value as text, nil for NULL.
// The value is read as a stream, so that no query can take this program's memory.
func (s *server) ask(ctx context.Context, database pg.Name, sql string) (value *string, isBool bool, err error) {
	cfg := s.cfg
	cfg.User = s.reader
	c, err := postgres.Connect(ctx, cfg, database, application)
	if err != nil {
		return nil, false, err
	}
	defer c.Close(ctx)
	if err := s.exec(ctx, c, "BEGIN TRANSACTION READ ONLY", "SET LOCAL statement_timeout = '"+assertionTime+"'"); err != nil {
		return nil, false, err
	}
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \t\r\n")
	// Parsed by itself it is one whole statement; only then it is put into another.
	described, err := c.PgConn().Prepare(ctx, "", sql, nil)
	switch {
	case err != nil:
		return nil, false, err
	case len(described.ParamOIDs) > 0:
		return nil, false, errors.New("it has parameters")
	case len(described.Fields) != 1:
		return nil, false, fmt.Errorf("it gives %d columns, not one value", len(described.Fields))
	}
	var row []byte
	rows, long := 0, false
	_, err = c.CopyOut(ctx, "COPY ("+sql+"\n) TO STDOUT", false, func(p postgres.Piece) error {
		if p.First {
			if rows++; rows > 1 {
				return errTooMany
			}
		}
		long = long || p.Row > valueBytes
		if !long {
			row = append(row, p.Data...)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, false, err
	case rows == 0:
		return nil, false, errors.New("it gave no row")
	case long:
		return nil, false, fmt.Errorf("it gave more than %d bytes", valueBytes)
	}
	return plainValue(strings.TrimSuffix(string(row), "\n")), described.Fields[0].DataTypeOID == boolean, nil
}

// plainValue undoes the escapes of COPY's text format.
func plainValue(s string) *string {
	if s == `\N` {
		return nil
	}
	out := strings.NewReplacer(`\\`, `\`, `\b`, "\b", `\f`, "\f", `\n`, "\n", `\r`, "\r", `\t`, "\t", `\v`, "\v").Replace(s)
	return &out
}
