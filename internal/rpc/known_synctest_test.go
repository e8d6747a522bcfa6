package rpc_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

// newer gives a message a field that no version has.
func newer[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	return m
}

// nested gives lists that stand in each other, n of them.
func nested(n int, inner *structpb.Value) *structpb.Value {
	for range n {
		inner = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{inner}})
	}
	return inner
}

func TestWhatThisVersionDoesNotKnowIsFoundAnywhere(t *testing.T) {
	label := descriptorpb.FieldDescriptorProto_Label(77)
	known := &descriptorpb.FileDescriptorProto{Name: proto.String("x"), Dependency: []string{"a"}, PublicDependency: []int32{1},
		MessageType: []*descriptorpb.DescriptorProto{{Field: []*descriptorpb.FieldDescriptorProto{{Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}}}}}
	for _, c := range []struct {
		name string
		m    proto.Message
		want string // "" when nothing is to be found
	}{
		{"no message", nil, ""},
		{"an empty message", &health.HealthCheckRequest{}, ""},
		{"all that is known", known, ""},
		{"at the top", newer(&health.HealthCheckRequest{Service: "x"}), "message grpc.health.v1.HealthCheckRequest: field 9999"},
		{"in a field", &descriptorpb.FileDescriptorProto{Options: newer(&descriptorpb.FileOptions{})}, "google.protobuf.FileOptions: field 9999"},
		{"in a list", &descriptorpb.FileDescriptorProto{MessageType: []*descriptorpb.DescriptorProto{{}, newer(&descriptorpb.DescriptorProto{})}}, "google.protobuf.DescriptorProto: field 9999"},
		{"in a map", &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNullValue(), "b": newer(structpb.NewBoolValue(true))}}, "google.protobuf.Value: field 9999"},
		{"a value of an enumeration", &descriptorpb.FieldDescriptorProto{Label: &label}, "google.protobuf.FieldDescriptorProto: value 77 of field label"},
		{"nested within bounds", nested(15, structpb.NewBoolValue(true)), ""},
		{"the deepest within bounds", nested(15, newer(structpb.NewBoolValue(true))), "field 9999"},
		{"nested beyond bounds", nested(5000, structpb.NewBoolValue(true)), "stand in each other"},
	} {
		err := rpc.CheckKnown(c.m)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestARequestThatAsksForMoreThanIsKnownIsRefusedUnlessTheMethodIsLenient(t *testing.T) {
	for _, lenient := range []bool{false, true} {
		calls := 0
		world := func(t *testing.T, w *world, client health.HealthClient) {
			w.service.check = func(context.Context, *health.HealthCheckRequest) error { calls++; return nil }
			w.service.watch = func(grpc.ServerStreamingServer[health.HealthCheckResponse]) error { calls++; return nil }
			unary := func(m *health.HealthCheckRequest) error {
				_, err := client.Check(t.Context(), m)
				return err
			}
			stream := func(m *health.HealthCheckRequest) error {
				st, err := client.Watch(t.Context(), m)
				if err == nil {
					_, err = st.Recv()
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			for name, call := range map[string]func(*health.HealthCheckRequest) error{"unary": unary, "stream": stream} {
				if err := call(&health.HealthCheckRequest{Service: "x"}); err != nil {
					t.Errorf("%s, known: %v", name, err)
				}
				err := call(newer(&health.HealthCheckRequest{}))
				if lenient && err != nil || !lenient && (errs.KindOf(err) != errs.Unsupported || !strings.Contains(err.Error(), "HealthCheckRequest: field 9999")) {
					t.Errorf("%s, lenient %v: %v", name, lenient, err)
				}
			}
		}
		var methods []string
		if lenient {
			methods = []string{health.Health_Check_FullMethodName, health.Health_Watch_FullMethodName}
		}
		bubbleWith(t, func(o *rpc.ServerOptions) { o.Lenient = methods }, world)
		if want := map[bool]int{false: 2, true: 4}[lenient]; calls != want {
			t.Errorf("lenient %v: %d calls reached the handlers, want %d", lenient, calls, want)
		}
	}
}

func TestWhoMayNotCallIsToldThatFirst(t *testing.T) {
	refuse := func(o *rpc.ServerOptions) {
		o.Authorize = func(context.Context, string) error { return errs.Denied }
	}
	bubbleWith(t, refuse, func(t *testing.T, _ *world, client health.HealthClient) {
		if _, err := client.Check(t.Context(), newer(&health.HealthCheckRequest{})); !errors.Is(err, errs.Denied) {
			t.Errorf("got %v", err)
		}
	})
}

// bubbleWith is bubble with a server whose options are changed first.
func bubbleWith(t *testing.T, change func(*rpc.ServerOptions), fn func(t *testing.T, w *world, client health.HealthClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		change(&w.options)
		w.serve()
		conn := w.dial(pki.NewHolder(w.identity(pki.LeafLife)).Certificate)
		fn(t, w, health.NewHealthClient(conn))
		_ = conn.Close()
		w.end()
	})
}
