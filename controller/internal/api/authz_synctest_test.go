package api_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// call makes a call with an empty request, or a stream with one empty message,
// and gives how it ended.
func call(ctx context.Context, conn *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if !strings.HasSuffix(method, "/Session") && !strings.HasSuffix(method, "/Watch") && !strings.HasSuffix(method, "/WatchJob") && !strings.HasSuffix(method, "/WatchCheck") && !strings.HasSuffix(method, "/WatchPrune") &&
		!strings.Contains(method, "ChunkService") && !strings.Contains(method, "ExportService") {
		return conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err = stream.RecvMsg(&emptypb.Empty{}); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// refusedBy tells whether authorization itself refused the call: its errors
// begin with the method, a handler's never do.
func refusedBy(err error, method string) bool {
	return err != nil && strings.HasPrefix(err.Error(), method+": ")
}

func TestEveryMethodTakesWhoItsRowSaysAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		revokedAgent, revokedOperator := w.agent("revoked"), w.operator("revoked", catalog.RoleAdmin)
		if _, err := w.enroll.Revoke(t.Context(), "revoked", "test", enrollBy); err != nil {
			t.Fatal(err)
		}
		w.revokeOperator("revoked")
		const (
			nobody = "no certificate"
			agent  = "agent"
			viewer = "viewer"
			oper   = "operator"
			admin  = "admin"
		)
		callers := map[string]*grpc.ClientConn{
			nobody:             w.dial(nil),
			agent:              w.dial(w.agent("a").cert),
			"revoked agent":    w.dial(revokedAgent.cert),
			viewer:             w.dial(w.operator("v", catalog.RoleViewer).cert),
			oper:               w.dial(w.operator("o", catalog.RoleOperator).cert),
			admin:              w.dial(w.operator("x", catalog.RoleAdmin).cert),
			"revoked operator": w.dial(revokedOperator.cert),
			"a later role":     w.dial(w.operator("later", catalog.RoleAdmin+1).cert),
			"deleted operator": w.dial(func() identity { c, _ := issueOperator(t, w.issuer, "ghost", pki.LeafLife); return identity{cert: c} }().cert),
		}
		// The table once more, by hand and by other means: who is taken, by service and verb.
		want := func(method string) []string {
			switch {
			case strings.HasSuffix(method, "/Enroll"), strings.HasSuffix(method, "Health/Check"):
				return []string{nobody, agent, viewer, oper, admin, "revoked agent", "revoked operator", "a later role", "deleted operator"}
			case strings.HasSuffix(method, "Health/Watch"), strings.HasSuffix(method, "/WhoAmI"), strings.HasSuffix(method, "/Renew"):
				return []string{agent, viewer, oper, admin}
			case strings.HasSuffix(method, "Health/List"):
				return []string{admin}
			case strings.Contains(method, "AgentService/"), strings.Contains(method, "ChunkService/"):
				return []string{agent}
			case strings.HasSuffix(method, "/StartBackup"), strings.HasSuffix(method, "/StartRestore"), strings.HasSuffix(method, "/CancelJob"), strings.HasSuffix(method, "/VerifySnapshot"),
				strings.HasSuffix(method, "/UnforgetSnapshots"), strings.HasSuffix(method, "/HoldSnapshot"), strings.HasSuffix(method, "/Export"), strings.HasSuffix(method, "/CheckRepository"), strings.HasSuffix(method, "/CancelCheck"):
				return []string{oper, admin}
			case strings.HasSuffix(method, "/ListTokens"), strings.Contains(method, "KeyService/"):
				return []string{admin}
			}
			verb := method[strings.LastIndexByte(method, '/')+1:]
			for _, reads := range []string{"List", "Get", "Watch", "Diff"} {
				if strings.HasPrefix(verb, reads) {
					return []string{viewer, oper, admin}
				}
			}
			return []string{admin}
		}
		for _, method := range api.Methods() {
			allowed := map[string]bool{}
			for _, who := range want(method) {
				allowed[who] = true
			}
			for who, conn := range callers {
				err := call(t.Context(), conn, method)
				if errors.Is(err, errs.Unavailable) {
					t.Fatalf("%s by %s: %v", method, who, err)
				}
				if refused := refusedBy(err, method); refused == allowed[who] {
					t.Errorf("%s by %s: refused = %v (%v)", method, who, refused, err)
				} else if refused && !errors.Is(err, errs.Denied) && !errors.Is(err, errs.Unauthenticated) {
					t.Errorf("%s by %s: refused as %v", method, who, err)
				}
			}
		}
		if err := call(t.Context(), callers[admin], "/tuskvault.v1.FleetService/NoSuchMethod"); err == nil {
			t.Error("a method that does not exist was answered")
		}
	})
}

func TestACertificateOfAnotherRepositoryIsWorthNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other, err := pki.NewRoot(repo.NewID(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		issuer, err := other.Issuer(1, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.operator("admin", catalog.RoleAdmin)
		cert, _ := issueOperator(t, issuer, "admin", pki.LeafLife) // the same name, under another root
		conn := w.dial(cert)
		for _, method := range api.Methods() {
			if err := call(t.Context(), conn, method); err == nil {
				t.Errorf("%s was answered", method)
			}
		}
	})
}

func TestRefusedCallsAreAuditedAndAFloodIsOnlyCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := w.dial(w.operator("v", catalog.RoleViewer).cert)
		for range 500 {
			_, err := tuskvaultv1.NewFleetServiceClient(conn).RevokeAgent(t.Context(), &tuskvaultv1.RevokeAgentRequest{Agent: "a"})
			wantKind(t, err, errs.Denied, "viewer", "admin")
		}
		got := w.audited("call.refuse")
		if len(got) == 0 || len(got) > 100 {
			t.Fatalf("%d records of 500 refusals", len(got))
		}
		if r := got[0]; r.Actor != "operator/v" || !strings.Contains(r.Object, "RevokeAgent") || r.Outcome != errs.Denied.Error() || r.Address == "" {
			t.Errorf("record %+v", r)
		}
		time.Sleep(2 * time.Minute)
		counts := w.audited("audit.count")
		if len(counts) != 1 || !strings.Contains(counts[0].Detail, "470 more refused calls") {
			t.Errorf("counts %+v", counts)
		}
	})
}

// watchHealth opens a stream that stays open, and gives a channel that tells how it ended.
func watchHealth(t *testing.T, conn *grpc.ClientConn) <-chan error {
	t.Helper()
	stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// endsWithin fails unless the channel tells an end in time.
func endsWithin(t *testing.T, ended <-chan error, d time.Duration, what string) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil {
			t.Errorf("%s ended without an error", what)
		}
	case <-time.After(d):
		t.Errorf("%s is still open after %s", what, d)
	}
}

func TestRevokingAnAgentCutsWhatItHasOpenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		conn := w.dial(a.cert)
		health, other := watchHealth(t, conn), watchHealth(t, w.dial(w.agent("db2").cert))
		s := w.session(a, hello())
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		if _, err := admin.RevokeAgent(t.Context(), &tuskvaultv1.RevokeAgentRequest{Agent: "db1", Reason: "stolen"}); err != nil {
			t.Fatal(err)
		}
		endsWithin(t, health, time.Second, "a stream of the revoked agent")
		endsWithin(t, s.ended, time.Second, "its session")
		wantKind(t, call(t.Context(), conn, tuskvaultv1.StatusService_WhoAmI_FullMethodName), errs.Denied, "db1", "revoked")
		if got := w.audited("agent.revoke"); len(got) != 1 || got[0].Actor != "operator/admin" || got[0].Detail != "stolen" {
			t.Errorf("audit %+v", got)
		}
		if len(w.jobs.revoked) != 1 || w.jobs.revoked[0] != a.id {
			t.Errorf("jobs were told %v", w.jobs.revoked)
		}
		select {
		case err := <-other:
			t.Errorf("another agent's stream ended: %v", err)
		case <-time.After(time.Minute):
		}
	})
}

func TestWhatIsRevokedOnAnyOtherWayIsCutWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		open := watchHealth(t, w.dial(w.operator("o", catalog.RoleOperator).cert))
		w.revokeOperator("o")
		endsWithin(t, open, 5*time.Second, "a stream of the revoked operator")
	})
}

func TestACertificateThatExpiresEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		open := watchHealth(t, w.dial(w.operatorFor("o", catalog.RoleViewer, time.Hour).cert))
		time.Sleep(time.Hour - time.Minute)
		select {
		case err := <-open:
			t.Fatalf("ended before its time: %v", err)
		default:
		}
		endsWithin(t, open, time.Minute+5*time.Second, "a stream with an expired certificate")
	})
}

func TestARoleCountsAsItIsNowAndNotAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := w.dial(w.operator("o", catalog.RoleAdmin).cert)
		method := tuskvaultv1.FleetService_ListTokens_FullMethodName
		if err := call(t.Context(), conn, method); err != nil {
			t.Fatal(err)
		}
		w.changeOperator("o", func(o *catalog.Operator) { o.Role = catalog.RoleViewer })
		wantKind(t, call(t.Context(), conn, method), errs.Denied, "viewer")
	})
}
