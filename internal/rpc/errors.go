package rpc

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// table maps kinds of failure to gRPC codes and back. Each kind has a code of
// its own, or shares one and has a detail, so that no kind changes on its way. Of
// a code without a detail the first row counts.
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
	// Nor for what a store's lock defers; a detail tells it from another conflict.
	{errs.Locked, codes.FailedPrecondition},
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
	kind := errs.KindOf(err)
	if kind != nil {
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
	out := status.New(code, text)
	if kind == errs.Locked {
		if detailed, err := out.WithDetails(&errdetails.ErrorInfo{Domain: errorDomain, Reason: reasonLocked}); err == nil {
			out = detailed
		}
	}
	return out.Err()
}

// The detail of an error whose code does not tell its kind.
const (
	errorDomain  = "tuskvault"
	reasonLocked = "LOCKED"
)

// kindOf gives the kind of a status, nil for none of ours.
func kindOf(s *status.Status) *errs.Kind {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain && info.GetReason() == reasonLocked {
			return errs.Locked
		}
	}
	for _, row := range table {
		if row.code == s.Code() {
			return row.kind
		}
	}
	return nil
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
	e := &remoteError{message: s.Message(), kind: kindOf(s)}
	if e.message == "" {
		e.message = strings.ToLower(s.Code().String())
	}
	return e
}
