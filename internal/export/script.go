package export

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// script writes SQL for psql. After its first error it writes nothing more.
type script struct {
	w   *bufio.Writer
	key string // of \restrict, or ""
	err error
}

// newScript begins a script. With restrict, psql runs none of its own commands
// (such as \!) that a text in it may smuggle in; one that does not know \restrict
// refuses the script.
func newScript(w io.Writer, restrict bool) *script {
	s := &script{w: bufio.NewWriterSize(w, 256<<10)}
	if restrict {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails: crypto/rand ends the program instead
		s.key = hex.EncodeToString(key[:])
		s.line(`\restrict ` + s.key)
		s.line("")
	}
	return s
}

// line writes a line, or several, as they are.
func (s *script) line(text string) {
	if s.err == nil {
		_, s.err = s.w.WriteString(text + "\n")
	}
}

// comment writes a comment of one line. What comes from a database must be in its
// display form, which has no line breaks.
func (s *script) comment(format string, args ...any) {
	s.line("-- " + strings.NewReplacer("\n", " ", "\r", " ").Replace(fmt.Sprintf(format, args...)))
}

// Write writes rows.
func (s *script) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}

// close ends the script and flushes it.
func (s *script) close() error {
	if s.key != "" {
		s.line("")
		s.line(`\unrestrict ` + s.key)
	}
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}

// settings under which a script is run, as pg_dump has them. A database may be
// set to read only.
func (s *script) settings() {
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		s.line("SET " + name + " = 0;")
	}
	for _, setting := range []string{"check_function_bodies = false", "xmloption = content", "client_min_messages = warning", "row_security = off",
		"default_transaction_read_only = off"} {
		s.line("SET " + setting + ";")
	}
}

// choice follows a value through defaults.
type choice struct{ now pg.Name }

// changed tells whether a default must be set anew.
func (c *choice) changed(to pg.Name) bool {
	different := c.now != to
	c.now = to
	return different
}
