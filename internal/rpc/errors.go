package rpc

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// table maps kinds of failure to gRPC codes and back. Each kind has a code of
// its own, so that no kind changes on its way.
var table = []struct {
	kind *errs.Kind
	code codes.Code
}{
	{errs.NotFound, codes.NotFound},
	{errs.Exists, codes.AlreadyExists},
	{errs.Invalid, codes.InvalidArgument},
	{errs.Denied, codes.PermissionDenied},
	{errs.Unauthenticated, codes.Unauthenticated},
	{errs.Conflict, codes.FailedPrecondition},
	{errs.Busy, codes.Aborted},
	{errs.Corrupt, codes.DataLoss},
	{errs.Unavailable, codes.Unavailable},
	{errs.Unsupported, codes.Unimplemented},
	{errs.Exhausted, codes.ResourceExhausted},
	// gRPC has no word for a place that cannot be written; OUT_OF_RANGE is used for nothing else here.
	{errs.ReadOnly, codes.OutOfRange},
	{errs.Canceled, codes.Canceled},
	{errs.Timeout, codes.DeadlineExceeded},
}

// remoteError is an error that came over the wire: the message as the other
// side wrote it, and its kind.
type remoteError struct {
	message string
	kind    *errs.Kind
}

// Error gives the message of the other side.
func (e *remoteError) Error() string { return e.message }

// Unwrap gives the kind, for errors.Is.
func (e *remoteError) Unwrap() error {
	if e.kind == nil {
		return nil
	}
	return e.kind
}

// toWire turns a handler's error into what gRPC sends.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Internal
	if kind := errs.KindOf(err); kind != nil {
		for _, row := range table {
			if row.kind == kind {
				code = row.code
			}
		}
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + " …"
	}
	return status.Error(code, text)
}

// fromWire turns what gRPC gave into an error with a kind. The end of a stream
// stays io.EOF.
func fromWire(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &remoteError{message: s.Message()}
	for _, row := range table {
		if row.code == s.Code() {
			e.kind = row.kind
		}
	}
	if e.message == "" {
		e.message = strings.ToLower(s.Code().String())
	}
	return e
}
