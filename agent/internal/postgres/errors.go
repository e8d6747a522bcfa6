package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// hinted is an error that knows what a person can do.
type hinted struct {
	error
	hint string
}

// Unwrap gives the error itself.
func (h *hinted) Unwrap() error { return h.error }

// WithHint adds what a person can do to an error.
func WithHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{err, hint}
}

// Hint tells what a person can do about an error, or "".
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// Code gives the SQLSTATE of an error of the server, or "".
func Code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// The codes that others branch on.
const (
	CodeLockNotAvailable   = "55P03"
	CodeUndefinedTable     = "42P01"
	CodeUndefinedSchema    = "3F000"
	CodeWrongObject        = "42809"
	CodeQueryCanceled      = "57014"
	CodeInternal           = "XX000"
	CodeProgramLimit       = "54000"
	CodeOutOfMemory        = "53200"
	CodeInvalidSnapshot    = "22023"
	CodeDuplicateDatabase  = "42P04"
	CodeUndefinedDatabase  = "3D000"
	CodeObjectNotAvailable = "55000"
)

// classify gives an error of the server, or of the connection to it, its kind.
func classify(err error) error {
	if err == nil || errs.KindOf(err) != nil {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if k := kindOfCode(e.Code); k != nil {
			return fmt.Errorf("%w: %w", err, k)
		}
		return err
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "conn closed") { // pgconn has no sentinel for it
		return fmt.Errorf("connection lost: %w: %w", err, errs.Unavailable)
	}
	return err
}

// kindOfCode is the one table from SQLSTATE to kinds.
func kindOfCode(code string) *errs.Kind {
	switch code {
	case "28P01", "28000", "42501", "0LP01":
		return errs.Denied
	case "3D000", "42P01", "42704", "42883", "3F000":
		return errs.NotFound
	case "42P04", "42P06", "42P07", "42710", "23505":
		return errs.Exists
	case "55P03", "53300", "55006", "40P01", "40001", "57014": // the last: somebody else canceled our statement
		return errs.Busy
	case "53100", "53200", "53400", "54000":
		return errs.Exhausted
	case "25006":
		return errs.ReadOnly
	case "XX001", "XX002":
		return errs.Corrupt
	case "0A000":
		return errs.Unsupported
	}
	if strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P") {
		return errs.Unavailable
	}
	return nil
}

// connectError says in one line why a connection could not be made.
func connectError(ctx context.Context, cfg Config, database pg.Name, pc *pgconn.Config, err error) error {
	act := fmt.Sprintf("connect to database %s of %s as %s (%s)", database.Display(), cfg, pc.User, address(pc))
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", act, context.Cause(ctx))
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverRefused(act, pc, e)
	}
	if isTLS(err) {
		return WithHint(fmt.Errorf("%s: TLS: %s: %w", act, root(err), errs.Invalid),
			"check sslmode, sslrootcert and the server's certificate")
	}
	return WithHint(fmt.Errorf("%s: %s: %w", act, root(err), errs.Unavailable),
		"is PostgreSQL running, and is this the address it listens on?")
}

// serverRefused words the server's own refusal.
func serverRefused(act string, pc *pgconn.Config, e *pgconn.PgError) error {
	kind := kindOfCode(e.Code)
	if kind == nil {
		return fmt.Errorf("%s: %w", act, e)
	}
	err := fmt.Errorf("%s: %s (SQLSTATE %s): %w", act, e.Message, e.Code, kind)
	switch e.Code {
	case "28P01":
		return WithHint(err, "check the password and where it comes from: the instance's password reference, PGPASSWORD or the password file")
	case "28000":
		return WithHint(err, "check pg_hba.conf and that role "+pc.User+" exists and may log in")
	case "3D000":
		return WithHint(err, "list the databases with: psql -l")
	case "42501":
		return WithHint(err, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", pg.Name(pc.Database).Quote(), pg.Name(pc.User).Quote()))
	case "53300":
		return WithHint(err, "raise max_connections or lower the number of workers")
	}
	return err
}

// isTLS tells whether a connection failed for its encryption.
func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	s := err.Error() // pgconn has no types for "server refused TLS connection" and "tls error"
	return strings.Contains(s, "tls error") || strings.Contains(s, "TLS connection") || strings.Contains(s, "tls:")
}

// root gives the text of the innermost error: what the operating system said,
// without pgconn's repetition of the whole address.
func root(err error) string {
	for {
		switch u := err.(type) { //nolint:errorlint // walks the whole tree, one step at a time
		case interface{ Unwrap() error }:
			if next := u.Unwrap(); next != nil {
				err = next
				continue
			}
		case interface{ Unwrap() []error }:
			if all := u.Unwrap(); len(all) > 0 {
				err = all[0]
				continue
			}
		}
		return err.Error()
	}
}
