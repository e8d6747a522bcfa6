package api_test

import (
	"crypto/ecdsa"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func newKeyAndRequest(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func newRequest(t *testing.T) []byte {
	t.Helper()
	_, csr := newKeyAndRequest(t)
	return csr
}

// tryEnroll enrolls over the wire, without a certificate.
func tryEnroll(t *testing.T, conn *grpc.ClientConn, credential, name string) (*tuskvaultv1.EnrollResponse, error) {
	t.Helper()
	return tuskvaultv1.NewEnrollmentServiceClient(conn).Enroll(t.Context(), &tuskvaultv1.EnrollRequest{Token: credential, Name: name, Csr: newRequest(t),
		Build: &tuskvaultv1.BuildInfo{Version: "1", Capability: 1}})
}

func TestATokenEnrollsOnceAndFirstContactIsAuthenticated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		made, err := admin.CreateToken(t.Context(), &tuskvaultv1.CreateTokenRequest{RequestId: repo.NewID().String(), Name: "db1",
			Ttl: durationpb.New(time.Hour), Labels: &tuskvaultv1.Labels{Values: map[string]string{"env": "prod"}}})
		if err != nil {
			t.Fatal(err)
		}
		token, err := pki.ParseJoinToken(made.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		conn := w.dialTLS(pki.FirstContactTLS(token.Root)) // knows nothing but the token
		r, err := tryEnroll(t, conn, token.Credential(), "db1")
		if err != nil {
			t.Fatal(err)
		}
		if r.GetName() != "db1" || len(r.GetCertificateChain()) < 2 || string(r.GetRootCertificate()) != string(w.issuer.Root().Raw) {
			t.Errorf("answer %v", r)
		}
		_, err = tryEnroll(t, conn, token.Credential(), "db1")
		wantKind(t, err, errs.Denied, "was used", "token create")
		list, err := admin.ListTokens(t.Context(), &tuskvaultv1.ListTokensRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if got := list.GetTokens(); len(got) != 1 || got[0].GetState() != "used" || got[0].GetUsedBy() != "db1" {
			t.Errorf("tokens %v", got)
		}
		agent, err := admin.GetAgent(t.Context(), &tuskvaultv1.GetAgentRequest{Agent: "db1"})
		if err != nil || agent.GetAgent().GetLabels().GetValues()["env"] != "prod" || agent.GetAgent().GetState() != tuskvaultv1.AgentState_AGENT_STATE_OFFLINE {
			t.Errorf("agent %v, %v", agent, err)
		}
		done, refused := 0, 0
		for _, r := range w.audited("agent.enroll") {
			if strings.Contains(r.Detail+r.Object, "secret") || strings.Contains(r.Detail, token.Credential()) {
				t.Errorf("record %+v tells too much", r)
			}
			if r.Outcome == "ok" {
				done++
			} else {
				refused++
			}
		}
		if done != 1 || refused != 1 {
			t.Errorf("%d and %d audit records, want one of each", done, refused)
		}
	})
}

func TestEachBadEnrollmentHasItsOwnReasonAndUsesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.agent("taken")
		conn := w.dial(nil)
		good := w.token(enroll.TokenSpec{Name: "db1"})
		other := w.token(enroll.TokenSpec{})
		id, secret, _ := strings.Cut(good, ".")
		_, otherSecret, _ := strings.Cut(other, ".")
		for _, c := range []struct {
			what, credential, name string
			kind                   *errs.Kind
			words                  []string
		}{
			{"rubbish", "hello", "db1", errs.Unauthenticated, []string{"form"}},
			{"nothing", "", "db1", errs.Unauthenticated, []string{"form"}},
			{"unknown id", "000000000000." + secret, "db1", errs.Unauthenticated, []string{"unknown"}},
			{"forged secret", id + "." + otherSecret, "db1", errs.Unauthenticated, []string{"secret is wrong"}},
			{"wrong name", good, "db2", errs.Denied, []string{"another name"}},
			{"name taken", other, "taken", errs.Exists, []string{"tuskctl agent replace taken"}},
			{"no name", other, "", errs.Invalid, []string{"name"}},
			{"name with a slash", other, "a/b", errs.Invalid, []string{"name"}},
			{"name too long", other, strings.Repeat("x", 64), errs.Invalid, []string{"name"}},
			{"name of odd bytes", other, "a\x1b[2J", errs.Invalid, []string{"name"}},
		} {
			_, err := tryEnroll(t, conn, c.credential, c.name)
			if err == nil {
				t.Errorf("%s: enrolled", c.what)
				continue
			}
			wantKind(t, err, c.kind, c.words...)
			time.Sleep(time.Second)
		}
		_, err := tuskvaultv1.NewEnrollmentServiceClient(conn).Enroll(t.Context(), &tuskvaultv1.EnrollRequest{Token: good, Name: "db1", Csr: []byte("no request")})
		wantKind(t, err, errs.Invalid, "request")
		_, err = tuskvaultv1.NewEnrollmentServiceClient(conn).Enroll(t.Context(), &tuskvaultv1.EnrollRequest{Token: strings.Repeat("x", 1000)})
		wantKind(t, err, errs.Invalid, "field token")
		if n := len(w.audited("agent.enroll")); n != 1+10+1 {
			t.Errorf("%d audit records, want 12", n)
		}
		if _, err := tryEnroll(t, conn, good, ""); err != nil {
			t.Errorf("the good token was used up: %v", err)
		}
		if _, err := tryEnroll(t, conn, other, "db2"); err != nil {
			t.Errorf("the other token was used up: %v", err)
		}
		late := w.token(enroll.TokenSpec{TTL: time.Minute})
		time.Sleep(time.Minute)
		_, err = tryEnroll(t, conn, late, "db3")
		wantKind(t, err, errs.Denied, "expired at", "token create")
	})
}

func TestEnrollingIsRateLimitedAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := w.dial(nil)
		busy := 0
		for range 300 {
			if _, err := tryEnroll(t, conn, "000000000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "x"); err != nil && strings.Contains(err.Error(), "too many calls") {
				wantKind(t, err, errs.Busy)
				busy++
			}
		}
		if busy < 250 {
			t.Errorf("%d of 300 calls at once were refused", busy)
		}
		if n := len(w.audited("agent.enroll")); n > 60 {
			t.Errorf("%d audit records of a flood", n)
		}
		time.Sleep(time.Minute)
		if _, err := tryEnroll(t, conn, w.token(enroll.TokenSpec{}), "db1"); err != nil {
			t.Errorf("after a minute: %v", err)
		}
	})
}

func TestTwoHostsWithOneTokenGetOneAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := w.dial(nil)
		credential := w.token(enroll.TokenSpec{})
		ended := make(chan error, 10)
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			go func() {
				_, err := tryEnroll(t, conn, credential, name)
				ended <- err
			}()
		}
		won := 0
		for range 10 {
			if err := <-ended; err == nil {
				won++
			} else {
				wantKind(t, err, errs.Denied, "was used")
			}
		}
		if won != 1 {
			t.Errorf("%d hosts enrolled with one token", won)
		}
	})
}

func TestARenewedCertificateIsTheSameIdentityAndARevokedOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		conn := w.dial(a.cert)
		client := tuskvaultv1.NewEnrollmentServiceClient(conn)
		for range 6 { // more often than certificates are kept: the live one must not be pushed out
			if _, err := client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: newRequest(t)}); err != nil {
				t.Fatal(err)
			}
		}
		w.view(func(tx *catalog.Tx) error {
			r, err := tx.Agent(a.id)
			if len(r.Certificates) > catalog.MaxCertificates {
				t.Errorf("%d certificates kept", len(r.Certificates))
			}
			return err
		})
		_, err := client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: []byte("x")})
		wantKind(t, err, errs.Invalid)
		if _, err := w.enroll.Revoke(t.Context(), "db1", "", enrollBy); err != nil {
			t.Fatal(err)
		}
		_, err = client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: newRequest(t)})
		wantKind(t, err, errs.Denied, "revoked")
	})
}

func TestAnOperatorRenewsItsOwnCertificateAndNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.operator("v", catalog.RoleViewer)
		time.Sleep(61 * 24 * time.Hour)
		client := tuskvaultv1.NewEnrollmentServiceClient(w.dial(first.cert))
		key, csr := newKeyAndRequest(t)
		answer, err := client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: csr})
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := pki.NewIdentity(key, answer.GetCertificateChain(), w.issuer.Root().Raw, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if fresh.Peer.String() != "operator/v" || fresh.Leaf.NotAfter.Before(time.Now().Add(89*24*time.Hour)) {
			t.Errorf("%s until %s", fresh.Peer, fresh.Leaf.NotAfter)
		}
		time.Sleep(30 * 24 * time.Hour) // the first certificate is past its end
		conn := w.dial(fresh.TLS())
		if err := call(t.Context(), conn, tuskvaultv1.StatusService_WhoAmI_FullMethodName); err != nil {
			t.Errorf("with the renewed certificate: %v", err)
		}
		wantKind(t, call(t.Context(), conn, tuskvaultv1.FleetService_ListTokens_FullMethodName), errs.Denied, "viewer")
		if err := call(t.Context(), w.dial(first.cert), tuskvaultv1.StatusService_WhoAmI_FullMethodName); err == nil {
			t.Error("the expired certificate was taken")
		}
		got := w.audited("operator.renew")
		if len(got) != 1 || got[0].Actor != "operator/v" || got[0].Object != "operator v" || got[0].Address == "" ||
			!strings.Contains(got[0].Detail, pki.FingerprintOf(fresh.Leaf).String()) {
			t.Errorf("audit %+v", got)
		}
	})
}

func TestAnOperatorsCertificatesAreBoundedAndNoneIsRenewedOnceRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.operator("admin", catalog.RoleAdmin)
		client := tuskvaultv1.NewEnrollmentServiceClient(w.dial(o.cert))
		for range catalog.MaxCertificates + 2 { // answers that were lost must not push the live one out
			if _, err := client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: newRequest(t)}); err != nil {
				t.Fatal(err)
			}
		}
		w.view(func(tx *catalog.Tx) error {
			r, err := tx.Operator("admin")
			if n := len(r.Certificates); n != catalog.MaxCertificates || r.Role != catalog.RoleAdmin {
				t.Errorf("%d certificates kept, role %s", n, r.Role)
			}
			return err
		})
		_, err := client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: make([]byte, 17<<10)})
		wantKind(t, err, errs.Invalid, "field csr")
		w.revokeOperator("admin")
		_, err = client.Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: newRequest(t)})
		wantKind(t, err, errs.Denied, "revoked")
		// Also past the table, as when the revocation comes between the look-up and the change.
		_, err = w.enroll.RenewOperator(t.Context(), "admin", pki.FingerprintOf(o.cert.Leaf), newRequest(t), "test")
		wantKind(t, err, errs.Denied, "revoked")
	})
}

func TestARebuiltHostReturnsByReplaceAndKeepsItsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := w.agent("db1")
		s := w.session(old, hello())
		before := w.instanceOf("db1", "main")
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		first, err := admin.ReplaceAgent(t.Context(), &tuskvaultv1.ReplaceAgentRequest{Agent: "db1"})
		if err != nil {
			t.Fatal(err)
		}
		endsWithin(t, s.ended, time.Second, "the old host's session")
		second, err := admin.ReplaceAgent(t.Context(), &tuskvaultv1.ReplaceAgentRequest{Agent: "db1"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tryEnroll(t, w.dial(nil), credential(t, first.GetSecret()), "db1")
		wantKind(t, err, errs.Unauthenticated, "removed")
		fresh := w.enrollWith(credential(t, second.GetSecret()), "db1")
		if fresh.id != old.id {
			t.Errorf("id %s, was %s", fresh.id, old.id)
		}
		w.session(fresh, hello())
		if now := w.instanceOf("db1", "main"); now.ID != before.ID || now.Domain != before.Domain {
			t.Errorf("instance %+v, was %+v", now, before)
		}
		wantKind(t, call(t.Context(), w.dial(old.cert), tuskvaultv1.StatusService_WhoAmI_FullMethodName), errs.Denied, "good ones")
	})
}

func TestATokenIsShownOnceAndRemovedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		request := &tuskvaultv1.CreateTokenRequest{RequestId: repo.NewID().String()}
		made, err := admin.CreateToken(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if ttl := made.GetToken().GetExpireTime().AsTime().Sub(made.GetToken().GetCreateTime().AsTime()); ttl != time.Hour {
			t.Errorf("works for %s", ttl)
		}
		_, err = admin.CreateToken(t.Context(), request)
		wantKind(t, err, errs.Conflict, "answered before")
		if _, err := admin.RemoveToken(t.Context(), &tuskvaultv1.RemoveTokenRequest{Id: made.GetToken().GetId()[:6]}); err != nil {
			t.Fatal(err)
		}
		_, err = tryEnroll(t, w.dial(nil), credential(t, made.GetSecret()), "db1")
		wantKind(t, err, errs.Unauthenticated, "removed")
	})
}

func TestALostAnswerIsGivenAgainToTheSameRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		client := tuskvaultv1.NewEnrollmentServiceClient(w.dial(nil))
		request := &tuskvaultv1.EnrollRequest{Token: w.token(enroll.TokenSpec{}), Name: "db1", Csr: newRequest(t)}
		first, err := client.Enroll(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		second, err := client.Enroll(t.Context(), request)
		if err != nil || second.GetAgentId() != first.GetAgentId() || string(second.GetCertificateChain()[0]) != string(first.GetCertificateChain()[0]) {
			t.Errorf("the same request again: %v, %v", second, err)
		}
		forged := &tuskvaultv1.EnrollRequest{Token: request.GetToken()[:13] + strings.Repeat("A", 43), Name: "db1", Csr: request.GetCsr()}
		_, err = client.Enroll(t.Context(), forged)
		wantKind(t, err, errs.Unauthenticated, "secret is wrong")
		for what, other := range map[string]*tuskvaultv1.EnrollRequest{
			"another key":  {Token: request.GetToken(), Name: "db1", Csr: newRequest(t)},
			"another name": {Token: request.GetToken(), Name: "db2", Csr: request.GetCsr()},
		} {
			if _, err := client.Enroll(t.Context(), other); err == nil {
				t.Errorf("%s: enrolled with a used token", what)
			} else {
				wantKind(t, err, errs.Denied, "was used")
			}
		}
		if _, err := w.enroll.Revoke(t.Context(), "db1", "", enrollBy); err != nil {
			t.Fatal(err)
		}
		_, err = client.Enroll(t.Context(), request)
		wantKind(t, err, errs.Denied, "void")
	})
}
