package api

import (
	"slices"
	"strings"
	"testing"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// served lists every method of every service that the program can register.
func served(t *testing.T) []string {
	t.Helper()
	var out []string
	packages := []protoreflect.FullName{tuskvaultv1.File_tuskvault_v1_session_proto.Package(), healthv1.File_grpc_health_v1_health_proto.Package()}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !slices.Contains(packages, f.Package()) {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out = append(out, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
		return true
	})
	if len(out) < 30 {
		t.Fatalf("only %d methods found: the walk is broken", len(out))
	}
	return out
}

func TestEveryMethodHasExactlyOneRow(t *testing.T) {
	methodsServed := served(t)
	for _, m := range methodsServed {
		if row, ok := methods[m]; !ok {
			t.Errorf("%s has no row in the table of authorization", m)
		} else if row == (callers{}) {
			t.Errorf("%s has a row that nobody passes", m)
		}
	}
	for m := range methods {
		if !slices.Contains(methodsServed, m) {
			t.Errorf("the table has a row for %s, which no service has", m)
		}
	}
}

func TestOnlyEnrollAndHealthTakeStrangers(t *testing.T) {
	for m, row := range methods {
		if row.anyone && m != tuskvaultv1.EnrollmentService_Enroll_FullMethodName && !strings.HasPrefix(m, "/grpc.health.v1.Health/") {
			t.Errorf("%s may be called without a certificate", m)
		}
	}
}
