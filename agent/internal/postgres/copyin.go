package postgres

import (
	"context"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// CopyIn runs a COPY … FROM STDIN with what r gives and returns the number of
// rows the server counted. Only io.EOF from r commits: any other error makes the
// server throw everything away, and comes back. r may still be read for a moment
// after CopyIn has returned, when the connection was lost.
func (c *Conn) CopyIn(ctx context.Context, sql string, r io.Reader) (int64, error) {
	if c.pc == nil {
		return 0, c.lostError()
	}
	source := &failing{r: r}
	tag, err := c.pc.CopyFrom(ctx, source, sql)
	if err == nil {
		return tag.RowsAffected(), nil
	}
	if ctx.Err() == nil && !c.Lost() && source.err != nil && Code(err) == CodeQueryCanceled {
		return 0, source.err // the server only repeats what r said
	}
	return 0, c.wrap(ctx, err)
}

// failing remembers the error with which a reader ended. It is read by one
// goroutine, and asked when that has ended.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// RunBinary runs one statement whose parameters are in the binary format, of the
// types that oids names, and throws its rows away.
func (c *Conn) RunBinary(ctx context.Context, sql string, oids []uint32, params [][]byte) error {
	if c.pc == nil {
		return c.lostError()
	}
	if len(oids) != len(params) {
		return fmt.Errorf("statement with %d types for %d parameters: %w", len(oids), len(params), errs.Invalid)
	}
	formats := make([]int16, len(params))
	for i := range formats {
		formats[i] = 1
	}
	_, err := c.pc.ExecParams(ctx, sql, params, oids, formats, nil).Close()
	return c.wrap(ctx, err)
}
