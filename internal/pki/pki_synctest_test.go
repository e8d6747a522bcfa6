package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// world is a repository with its authorities.
type world struct {
	t      *testing.T
	id     [16]byte
	root   *pki.Root
	issuer *pki.Issuer
}

func newWorld(t *testing.T, b byte) *world {
	t.Helper()
	w := &world{t: t, id: [16]byte{b, 1, 2, 3}}
	var err error
	if w.root, err = pki.NewRoot(w.id, time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.issuer, err = w.root.Issuer(3, time.Now()); err != nil {
		t.Fatal(err)
	}
	return w
}

// agent issues an agent's identity.
func (w *world) agent(id byte, life time.Duration) *pki.Identity {
	w.t.Helper()
	return w.identity(func(csr []byte) (pki.Chain, error) {
		return w.issuer.IssueAgent(csr, [16]byte{id}, time.Now(), life)
	})
}

func (w *world) identity(issue func(csr []byte) (pki.Chain, error)) *pki.Identity {
	w.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := issue(csr)
	if err != nil {
		w.t.Fatal(err)
	}
	i, err := pki.NewIdentity(key, chain.Certificates, w.root.Certificate().Raw, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// server gives the controller's configuration.
func (w *world) server() *tls.Config {
	w.t.Helper()
	c, err := pki.ServerTLS(w.root.Certificate(), pki.NewServerCertificate(w.issuer, pki.LeafLife).Certificate)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// handshake connects a client and gives what each side made of the other.
func handshake(t *testing.T, server, client *tls.Config) (peer pki.Peer, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.Close() //nolint:errcheck // a pipe
		if serverErr = s.HandshakeContext(ctx); serverErr != nil {
			return
		}
		if len(s.ConnectionState().PeerCertificates) > 0 {
			peer, serverErr = pki.PeerOfConnection(s.ConnectionState())
		}
		_, _ = s.Write([]byte("x"))
	}()
	if clientErr = c.HandshakeContext(ctx); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // a refused certificate is only seen here in TLS 1.3
	}
	_ = b.Close()
	<-done
	return peer, serverErr, clientErr
}

func clientTLS(t *testing.T, i *pki.Identity) *tls.Config {
	t.Helper()
	c, err := i.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnIssuedIdentityIsSeenByTheServerAsWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		agent := w.agent(9, time.Hour)
		peer, serverErr, clientErr := handshake(t, w.server(), clientTLS(t, agent))
		if serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
		if peer.Kind != pki.Agent || peer.Agent != [16]byte{9} || peer.Repository != w.id || peer.Epoch != 3 || peer.Fingerprint != pki.FingerprintOf(agent.Leaf) {
			t.Errorf("peer %+v", peer)
		}
		operator := w.identity(func(csr []byte) (pki.Chain, error) {
			return w.issuer.IssueOperator(csr, "alice", time.Now(), time.Hour)
		})
		if peer, err, _ := handshake(t, w.server(), clientTLS(t, operator)); err != nil || peer.String() != "operator/alice" {
			t.Errorf("operator: %v %v", peer, err)
		}
	})
}

func TestFirstContactIsMadeOnlyWithTheRootOfTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(t, 1), newWorld(t, 2)
		token := pki.NewJoinToken(w.root.Certificate())
		if peer, serverErr, clientErr := handshake(t, w.server(), pki.FirstContactTLS(token.Root)); serverErr != nil || clientErr != nil || peer.Kind != "" {
			t.Errorf("own controller: %v %v %v", peer, serverErr, clientErr)
		}
		if _, _, err := handshake(t, other.server(), pki.FirstContactTLS(token.Root)); !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("another controller: %v", err)
		}
		// The right root beside a chain that it did not sign.
		evil := other.server()
		own := evil.GetCertificate
		evil.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := own(h)
			if err != nil {
				return nil, err
			}
			forged := *c
			forged.Certificate = append(append([][]byte{}, c.Certificate...), w.root.Certificate().Raw)
			return &forged, nil
		}
		if _, _, err := handshake(t, evil, pki.FirstContactTLS(token.Root)); !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("a chain with the root only beside it: %v", err)
		}
		// A client's certificate shown by a server.
		stolen := w.server()
		agent := w.agent(1, time.Hour)
		stolen.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := *agent.TLS()
			c.Certificate = append(append([][]byte{}, c.Certificate...), w.root.Certificate().Raw)
			return &c, nil
		}
		if _, _, err := handshake(t, stolen, pki.FirstContactTLS(token.Root)); err == nil {
			t.Error("an agent's certificate passed for the controller's at first contact")
		}
		if _, _, err := handshake(t, stolen, clientTLS(t, agent)); err == nil {
			t.Error("an agent's certificate passed for the controller's")
		}
	})
}

func TestHostileClientCertificatesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(t, 1), newWorld(t, 2)
		good := w.agent(1, time.Hour)
		server := func(show *tls.Certificate) (pki.Peer, error) {
			c := clientTLS(t, good)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return show, nil }
			peer, err, _ := handshake(t, w.server(), c)
			return peer, err
		}
		if _, err := server(good.TLS()); err != nil {
			t.Fatalf("the good one: %v", err)
		}
		if _, err := server(other.agent(1, time.Hour).TLS()); err == nil {
			t.Error("a certificate under another root was taken")
		}
		own, err := pki.NewServerCertificate(w.issuer, time.Hour).Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server(own); err == nil {
			t.Error("the controller's certificate was taken as a client's")
		}
		short := w.agent(2, time.Minute).TLS()
		time.Sleep(2 * time.Minute)
		if _, err := server(short); err == nil {
			t.Error("an expired certificate was taken")
		}
		if _, err := server(&tls.Certificate{Certificate: [][]byte{good.Chain[0]}, PrivateKey: good.Key}); err == nil {
			t.Error("a leaf without its issuer was taken")
		}
	})
}

func TestAClockThatIsLateByLessThanAnHourAcceptsANewCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		agent := w.agent(1, 24*time.Hour)
		for _, tc := range []struct {
			name string
			skew time.Duration
			ok   bool
		}{
			{"on time", 0, true}, {"59 minutes late", -59 * time.Minute, true}, {"61 minutes late", -61 * time.Minute, false},
			{"23 hours ahead", 23 * time.Hour, true}, {"25 hours ahead", 25 * time.Hour, false},
		} {
			server := w.server()
			server.Time = func() time.Time { return time.Now().Add(tc.skew) }
			if _, err, _ := handshake(t, server, clientTLS(t, agent)); (err == nil) != tc.ok {
				t.Errorf("server's clock %s: %v", tc.name, err)
			}
		}
	})
}

func TestTheServersCertificateRenewsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		s := pki.NewServerCertificate(w.issuer, 30*time.Hour)
		first, err := s.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(19 * time.Hour)
		if again, _ := s.Certificate(); again != first {
			t.Error("renewed before two thirds of its life")
		}
		time.Sleep(2 * time.Hour)
		second, err := s.Certificate()
		if err != nil || second == first {
			t.Fatalf("not renewed after two thirds of its life: %v", err)
		}
		if !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
			t.Error("the new certificate does not live longer")
		}
	})
}

func TestNoLeafOutlivesItsIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		time.Sleep(pki.RootLife - 24*time.Hour)
		a := w.agent(1, pki.LeafLife)
		if left := time.Until(a.Leaf.NotAfter); left > 24*time.Hour {
			t.Errorf("the leaf lives %s, its issuer 24h", left)
		}
		time.Sleep(25 * time.Hour)
		key, _ := pki.NewKey()
		csr, _ := pki.NewRequest(key)
		if _, err := w.issuer.IssueAgent(csr, [16]byte{1}, time.Now(), time.Hour); !errors.Is(err, errs.Conflict) {
			t.Errorf("an expired issuer issued: %v", err)
		}
	})
}

func TestTLS12IsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		c := clientTLS(t, w.agent(1, time.Hour))
		c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if _, err, _ := handshake(t, w.server(), c); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("TLS 1.2: %v", err)
		}
	})
}

// verify gives the chain of an identity as crypto/tls would.
func verify(t *testing.T, w *world, leaf *x509.Certificate, chain [][]byte) []*x509.Certificate {
	t.Helper()
	out := []*x509.Certificate{leaf}
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return append(out, w.root.Certificate())
}
