package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// copyBuffer is the size of the buffer through which rows are read. A row that
// fits comes in one piece, a wider one in several: memory does not depend on
// the width of rows, which may be more than a gigabyte.
const copyBuffer = 64 << 10

// drainTimeout bounds the wait for the server's last word after a cancellation.
const drainTimeout = 10 * time.Second

// Piece is a row of a COPY, or a part of a wide one.
type Piece struct {
	// Data is valid until the sink returns.
	Data []byte
	// Row is the length of the whole row in bytes, known from the first piece on.
	Row int
	// First and Last tell the row's ends.
	First, Last bool
}

// CopyOut runs a COPY … TO STDOUT and gives its rows to sink, and returns their
// number, which agrees with what the server counted. In the text format a row
// is its line with the newline; in the binary format (binary true) a row is its
// tuple: the header and the trailer are taken off.
//
// When ctx ends or sink fails the server is asked to cancel; the call returns
// when the server has, or after ten seconds without the connection (see Lost).
// Otherwise the connection can be used again, also after an error of the server.
func (c *Conn) CopyOut(ctx context.Context, sql string, bin bool, sink func(Piece) error) (int64, error) {
	if c.pc == nil {
		return 0, c.lostError()
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if c.buf == nil {
		c.buf = make([]byte, copyBuffer)
	}
	canceler := c.pc // still knows where to send a cancel request after Hijack
	// A write that took long has let pgconn read in the background. Whatever that
	// read is still waiting for would be missing from the rows.
	if err := c.pc.SyncConn(ctx); err != nil {
		return 0, c.wrap(ctx, err)
	}
	h, err := c.pc.Hijack()
	if err != nil {
		return 0, c.wrap(ctx, err)
	}
	c.pc = nil
	r := &copyReader{h: h, buf: c.buf, bin: bin, sink: sink}
	r.cancel = func() {
		// Outlives ctx on purpose: ctx is what has ended.
		cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout/2)
		defer stop()
		_ = h.Conn.SetDeadline(time.Now().Add(drainTimeout)) // a dead server is given up then
		_ = canceler.CancelRequest(cctx)                     // if it does not arrive the deadline ends the wait
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(done); r.cancel() })
	err = r.run(sql)
	if !stop() {
		<-done // the request must not hit the next statement
		r.canceled = true
	}
	return r.rows, c.afterCopy(ctx, r, err)
}

// afterCopy puts the connection back together and says how the COPY ended.
func (c *Conn) afterCopy(ctx context.Context, r *copyReader, err error) error {
	if err != nil {
		_ = r.h.Conn.Close() // broken in the middle of a message: nothing can be read from it any more
	} else {
		if r.canceled {
			err = r.h.Conn.SetDeadline(time.Time{})
		}
		if err == nil {
			c.pc, err = pgconn.Construct(r.h)
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.sinkErr != nil:
		return r.sinkErr
	case err != nil:
		return classify(err)
	case r.serverErr != nil:
		return classify(r.serverErr)
	}
	return r.check()
}

// copyReader reads one COPY off a connection.
type copyReader struct {
	h        *pgconn.HijackedConn
	buf      []byte
	from, to int // what of buf is read and not used
	bin      bool
	sink     func(Piece) error
	cancel   func()
	canceled bool

	messages  int64 // CopyData messages so far
	rows      int64
	trailer   bool // of the binary format
	tag       string
	sinkErr   error
	serverErr error
}

// check compares what came with what the server says it sent.
func (r *copyReader) check() error {
	n, ok := strings.CutPrefix(r.tag, "COPY ")
	count, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("copy rows: server answered %q: %w", r.tag, errs.Invalid)
	}
	if count != r.rows {
		return fmt.Errorf("copy rows: server sent %d rows and counted %d: %w", r.rows, count, errs.Corrupt)
	}
	if r.bin && !r.trailer {
		return fmt.Errorf("copy rows: binary stream without its trailer: %w", errs.Corrupt)
	}
	return nil
}

// run sends the statement and reads until the server is ready for the next. Its
// error means that the connection is broken.
func (r *copyReader) run(sql string) error {
	q := make([]byte, 0, len(sql)+6)
	q = append(q, 'Q', 0, 0, 0, 0)
	q = append(append(q, sql...), 0)
	binary.BigEndian.PutUint32(q[1:], uint32(len(q)-1))
	if _, err := r.h.Conn.Write(q); err != nil {
		return err
	}
	for {
		if err := r.fill(5); err != nil {
			return err
		}
		kind := r.buf[r.from]
		n := int(binary.BigEndian.Uint32(r.buf[r.from+1:])) - 4
		r.from += 5
		if n < 0 {
			return fmt.Errorf("message %q of length %d: %w", kind, n+4, errs.Corrupt)
		}
		var ready bool
		var err error
		if kind == 'd' {
			err = r.row(n)
		} else {
			ready, err = r.message(kind, n)
		}
		if err != nil || ready {
			return err
		}
	}
}

// fill makes at least n bytes of the stream readable in buf.
func (r *copyReader) fill(n int) error {
	if r.to-r.from >= n {
		return nil
	}
	copy(r.buf, r.buf[r.from:r.to])
	r.to -= r.from
	r.from = 0
	for r.to < n {
		k, err := r.h.Conn.Read(r.buf[r.to:])
		r.to += k
		if r.to >= n {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// The binary format's header is a signature of 11 bytes, flags and the length
// of an extension that no version has. It comes with the first row.
const binaryHeader = 11 + 4 + 4

// row reads one CopyData message of n bytes.
func (r *copyReader) row(n int) error {
	if err := r.fill(min(n, len(r.buf))); err != nil {
		return err
	}
	r.messages++
	if r.bin {
		if r.messages == 1 {
			if n < binaryHeader || binary.BigEndian.Uint32(r.buf[r.from+15:]) != 0 {
				return fmt.Errorf("binary header of %d bytes: %w", n, errs.Unsupported)
			}
			r.from += binaryHeader
			n -= binaryHeader
		}
		if n == 2 && r.buf[r.from] == 0xff && r.buf[r.from+1] == 0xff {
			r.from += n
			r.trailer = true
			return nil
		}
	}
	r.rows++
	left := n
	for first := true; first || left > 0; first = false {
		if r.from == r.to && left > 0 {
			if err := r.fill(1); err != nil {
				return err
			}
		}
		k := min(left, r.to-r.from)
		left -= k
		r.give(Piece{Data: r.buf[r.from : r.from+k], Row: n, First: first, Last: left == 0})
		r.from += k
	}
	return nil
}

// give hands a piece to the sink, until it fails; after that rows are only
// read so that the server can end.
func (r *copyReader) give(p Piece) {
	if r.sinkErr != nil {
		return
	}
	if r.sinkErr = r.sink(p); r.sinkErr != nil {
		r.canceled = true
		r.cancel()
	}
}

// body gives the n bytes of a message that is no row.
func (r *copyReader) body(kind byte, n int) ([]byte, error) {
	if n <= len(r.buf) {
		err := r.fill(n)
		b := r.buf[r.from : r.from+n]
		r.from += n
		return b, err
	}
	// An error can carry a long query or a value in its context.
	const largest = 16 << 20
	if n > largest {
		return nil, fmt.Errorf("message %q of %d bytes: %w", kind, n, errs.Unsupported)
	}
	b := make([]byte, n)
	k := copy(b, r.buf[r.from:r.to])
	r.from += k
	_, err := io.ReadFull(r.h.Conn, b[k:])
	return b, err
}

// message handles every other message; true means ready for the next query.
func (r *copyReader) message(kind byte, n int) (bool, error) {
	body, err := r.body(kind, n)
	if err != nil {
		return false, err
	}
	switch kind {
	case 'E':
		var m pgproto3.ErrorResponse
		if err := m.Decode(body); err != nil {
			return false, err
		}
		r.serverErr = pgconn.ErrorResponseToPgError(&m)
	case 'C':
		r.tag = strings.TrimSuffix(string(body), "\x00")
	case 'S':
		var m pgproto3.ParameterStatus
		if err := m.Decode(body); err != nil {
			return false, err
		}
		r.h.ParameterStatuses[m.Name] = m.Value
	case 'Z':
		if n != 1 {
			return false, fmt.Errorf("message 'Z' of %d bytes: %w", n, errs.Corrupt)
		}
		r.h.TxStatus = body[0]
		return true, nil
	}
	return false, nil
}
