package rpc

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// maxNesting bounds how deep messages may stand in each other. Ours reach about
// six; types that nest in themselves could be made to reach thousands.
const maxNesting = 32

// CheckKnown refuses a message in which anything is set that this program's
// version of it does not have: a field, or a value of an enumeration, at any
// depth. Protobuf would drop it without a word, and a wish of a newer program
// that is dropped must not look like one that was granted. The error is
// Unsupported and names the message.
func CheckKnown(m proto.Message) error {
	if m == nil {
		return nil
	}
	return checkKnown(m.ProtoReflect(), maxNesting)
}

func checkKnown(m protoreflect.Message, depth int) (err error) {
	name := m.Descriptor().FullName()
	if depth == 0 {
		return fmt.Errorf("message %s: more than %d messages stand in each other: %w", name, maxNesting, errs.Unsupported)
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown) // what was kept was well-formed
		return fmt.Errorf("message %s: field %d is not known to this version: %w", name, number, errs.Unsupported)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		err = checkField(f, v, depth-1)
		return err == nil
	})
	return err
}

// checkField checks what a field holds.
func checkField(f protoreflect.FieldDescriptor, v protoreflect.Value, depth int) (err error) {
	switch {
	case f.IsMap():
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			err = checkValue(f.MapValue(), v, depth)
			return err == nil
		})
	case f.IsList() && (f.Message() != nil || f.Enum() != nil):
		for i := 0; i < v.List().Len() && err == nil; i++ {
			err = checkValue(f, v.List().Get(i), depth)
		}
	case !f.IsList():
		err = checkValue(f, v, depth)
	}
	return err
}

// checkValue checks one value of a field.
func checkValue(f protoreflect.FieldDescriptor, v protoreflect.Value, depth int) error {
	switch {
	case f.Message() != nil:
		return checkKnown(v.Message(), depth)
	case f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil:
		return fmt.Errorf("message %s: value %d of field %s is not known to this version: %w", f.Parent().FullName(), v.Enum(), f.Name(), errs.Unsupported)
	}
	return nil
}

// strict refuses requests that CheckKnown does. It stands behind every other
// interceptor: who may not call learns nothing from it.
type strict struct{ lenient []string }

func (s strict) check(method string, m any) error {
	message, ok := m.(proto.Message)
	if !ok || slices.Contains(s.lenient, method) {
		return nil
	}
	if err := CheckKnown(message); err != nil {
		return fmt.Errorf("the request asks for something that this version does not know: %w", err)
	}
	return nil
}

func (s strict) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(info.FullMethod, req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s strict) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, &strictStream{ServerStream: ss, strict: s, method: info.FullMethod})
}

// strictStream checks the first message, which says what the stream is for.
type strictStream struct {
	grpc.ServerStream
	strict strict
	method string
	// begun is set by the first RecvMsg; a stream has one receiver at a time.
	begun bool
}

// RecvMsg reads a message.
func (s *strictStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil || s.begun {
		return err
	}
	s.begun = true
	return s.strict.check(s.method, m)
}
