package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// odd makes certificates that our issuer never would, with an issuing key taken
// from its PEM: what a bug or a stolen key could make.
type odd struct {
	t    *testing.T
	w    *world
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newOdd(t *testing.T, w *world) *odd {
	t.Helper()
	text, err := w.issuer.PEM()
	if err != nil {
		t.Fatal(err)
	}
	key, certs := split(t, text)
	return &odd{t: t, w: w, key: key, cert: certs[0]}
}

// leaf issues for a template.
func (o *odd) leaf(change func(*x509.Certificate)) ([]*x509.Certificate, error) {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true}
	change(t)
	der, err := x509.CreateCertificate(rand.Reader, t, o.cert, key.Public(), o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{c, o.cert, o.w.root.Certificate()}, nil
}

func TestOddIdentitiesAreRefused(t *testing.T) {
	w := newWorld(t, 0xab)
	o := newOdd(t, w)
	host := fmt.Sprintf("%x", w.id)
	agent := strings.Repeat("0a", 16)
	uris := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for _, text := range texts {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		}
	}
	good := "tuskvault://" + host + "/agent/" + agent
	for name, change := range map[string]func(*x509.Certificate){
		"none":                         uris(),
		"two":                          uris(good, "tuskvault://"+host+"/operator/root"),
		"another scheme":               uris("https://" + host + "/agent/" + agent),
		"another repository":           uris("tuskvault://" + strings.Repeat("ff", 16) + "/agent/" + agent),
		"a repository in capitals":     uris("tuskvault://" + strings.ToUpper(host) + "/agent/" + agent),
		"a short agent id":             uris("tuskvault://" + host + "/agent/0a0a"),
		"an agent id in capitals":      uris("tuskvault://" + host + "/agent/" + strings.ToUpper(agent)),
		"an agent id and more":         uris(good + "/x"),
		"a query":                      uris(good + "?role=admin"),
		"a fragment":                   uris(good + "#x"),
		"a user":                       uris("tuskvault://root@" + host + "/agent/" + agent),
		"a port":                       uris("tuskvault://" + host + ":1/agent/" + agent),
		"an unknown kind":              uris("tuskvault://" + host + "/admin/root"),
		"a name with a slash":          uris("tuskvault://" + host + "/operator/a/b"),
		"a name in capitals":           uris("tuskvault://" + host + "/operator/Alice"),
		"an escaped name":              uris("tuskvault://" + host + "/operator/al%69ce"),
		"an empty name":                uris("tuskvault://" + host + "/operator/"),
		"controller without its name":  uris("tuskvault://" + host + "/controller"),
		"controller with something":    uris("tuskvault://" + host + "/controller/x"),
		"an issuer":                    uris("tuskvault://" + host + "/issuer/3"),
		"the root":                     uris("tuskvault://" + host + "/root"),
		"an agent with a DNS name":     func(c *x509.Certificate) { uris(good)(c); c.DNSNames = []string{pki.ServerName} },
		"an agent with an IP address":  func(c *x509.Certificate) { uris(good)(c); c.IPAddresses = []net.IP{{127, 0, 0, 1}} },
		"an agent with a mail address": func(c *x509.Certificate) { uris(good)(c); c.EmailAddresses = []string{"a@b"} },
		"an authority": func(c *x509.Certificate) {
			uris(good)(c)
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		},
	} {
		chain, err := o.leaf(change)
		if err != nil {
			continue // so odd that it does not even parse
		}
		if p, err := pki.PeerFromChain(chain); !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("identity with %s was taken as %v: %v", name, p, err)
		}
	}
	chain, err := o.leaf(uris(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.PeerFromChain(chain); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if _, err := pki.PeerFromChain(chain[:2]); err == nil {
		t.Error("a chain without a root was taken")
	}
	if _, err := pki.PeerFromChain([]*x509.Certificate{chain[0], chain[1], newWorld(t, 9).root.Certificate()}); err == nil {
		t.Error("a chain with another repository's root was taken")
	}
}

func TestOnlyTheKeyOfARequestIsUsed(t *testing.T) {
	w := newWorld(t, 1)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("tuskvault://" + fmt.Sprintf("%x", w.id) + "/operator/root")
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"},
		URIs: []*url.URL{u}, DNSNames: []string{pki.ServerName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := w.issuer.IssueAgent(csr, [16]byte{5}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pki.PeerFromChain(verify(t, w, chain.Leaf, chain.Certificates))
	if err != nil || p.Kind != pki.Agent || p.Agent != [16]byte{5} || len(chain.Leaf.DNSNames) != 0 || strings.Contains(chain.Leaf.Subject.CommonName, "root") {
		t.Errorf("peer %v, DNS %v, subject %v: %v", p, chain.Leaf.DNSNames, chain.Leaf.Subject, err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	key, _ := pki.NewKey()
	good, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRequest, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384Request, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	for name, csr := range map[string][]byte{"nothing": nil, "rubbish": []byte("rubbish"), "a bad signature": forged, "an RSA key": rsaRequest,
		"another curve": p384Request, "too much": make([]byte, 1<<20)} {
		if _, err := w.issuer.IssueAgent(csr, [16]byte{1}, time.Now(), time.Hour); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.issuer.IssueOperator(good, "../root", time.Now(), time.Hour); !errors.Is(err, errs.Invalid) {
		t.Errorf("odd operator name: %v", err)
	}
}

func TestJoinTokensAreReadAsTheyWereWritten(t *testing.T) {
	w := newWorld(t, 1)
	token := pki.NewJoinToken(w.root.Certificate())
	got, err := pki.ParseJoinToken(" " + token.Text() + "\n")
	if err != nil || got != token {
		t.Fatalf("%v %v", got, err)
	}
	if parts := strings.Split(token.Text(), "."); len(parts) != 4 || parts[0] != "tv1" || len(parts[1]) != 12 {
		t.Errorf("form: %d parts", len(parts))
	}
	id, hash, err := pki.ParseCredential(token.Credential())
	if err != nil || id != token.ID || hash != token.Hash() {
		t.Errorf("credential: %v %v", id, err)
	}
	if other := pki.NewJoinToken(w.root.Certificate()); other.Hash() == token.Hash() || other.ID == token.ID {
		t.Error("two tokens are alike")
	}
}

func TestDamagedJoinTokensAreRefusedAndNeverRepeated(t *testing.T) {
	text := pki.NewJoinToken(newWorld(t, 1).root.Certificate()).Text()
	p := strings.Split(text, ".")
	for _, bad := range []string{"", "tv1", "tv2." + strings.Join(p[1:], "."), text + ".x", strings.Join(p[:3], "."),
		"tv1.zz." + p[2] + "." + p[3], "tv1." + p[1] + "00." + p[2] + "." + p[3], "tv1." + p[1] + "." + p[2][1:] + "." + p[3],
		"tv1." + p[1] + "." + p[2] + "=." + p[3], "tv1." + p[1] + "." + p[2] + "." + p[3][:10]} {
		_, err := pki.ParseJoinToken(bad)
		if !errors.Is(err, errs.Invalid) {
			t.Errorf("taken: %v", err)
		} else if strings.Contains(err.Error(), p[2]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	for _, bad := range []string{"", p[1], p[1] + "." + p[2][:5], "." + p[2], text} {
		if _, _, err := pki.ParseCredential(bad); !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("credential taken: %v", err)
		}
	}
}

func TestJoinTokensDoNotShowTheirSecret(t *testing.T) {
	token := pki.NewJoinToken(newWorld(t, 1).root.Certificate())
	secret := strings.Split(token.Text(), ".")[2]
	for _, shown := range []string{token.String(), fmt.Sprint(token), fmt.Sprintf("%+v %#v %s %q", token, token, token, token)} {
		if strings.Contains(shown, secret) {
			t.Errorf("shown: %s", shown)
		}
	}
	if b, err := json.Marshal(token); err == nil {
		t.Errorf("written as JSON: %s", b)
	}
}

func TestAuthoritiesAndIdentitiesSurviveBeingStored(t *testing.T) {
	w := newWorld(t, 1)
	text, err := w.root.PEM()
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.ParseRoot(text)
	if err != nil || root.Repository() != w.id {
		t.Fatalf("root: %v", err)
	}
	if w.issuer, err = root.Issuer(8, time.Now()); err != nil {
		t.Fatal(err)
	}
	if text, err = w.issuer.PEM(); err != nil {
		t.Fatal(err)
	}
	if w.issuer, err = pki.ParseIssuer(text); err != nil || w.issuer.Epoch() != 8 || w.issuer.Repository() != w.id {
		t.Fatalf("issuer: %v", err)
	}
	agent := w.agent(4, time.Hour)
	path := filepath.Join(t.TempDir(), "identity.pem")
	if err := agent.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	back, err := pki.LoadIdentity(path)
	if err != nil || back.Peer != agent.Peer || !back.Key.Equal(agent.Key) || !back.Root.Equal(agent.Root) {
		t.Errorf("identity: %v", err)
	}
	if back.Peer.Epoch != 8 {
		t.Errorf("issued in epoch %d, want 8", back.Peer.Epoch)
	}
}

func TestAnIdentityWhosePartsDoNotBelongTogetherIsRefused(t *testing.T) {
	w, other := newWorld(t, 1), newWorld(t, 2)
	a, b := w.agent(1, time.Hour), w.agent(2, time.Hour)
	if _, err := pki.NewIdentity(a.Key, b.Chain, a.Root.Raw, time.Now()); !errors.Is(err, errs.Invalid) {
		t.Errorf("another key: %v", err)
	}
	if _, err := pki.NewIdentity(a.Key, a.Chain, other.root.Certificate().Raw, time.Now()); !errors.Is(err, errs.Unauthenticated) {
		t.Errorf("another root: %v", err)
	}
	if _, err := pki.NewIdentity(a.Key, a.Chain, a.Root.Raw, time.Now().Add(2*time.Hour)); !errors.Is(err, errs.Unauthenticated) {
		t.Errorf("expired: %v", err)
	}
	if _, err := pki.NewIdentity(a.Key, nil, a.Root.Raw, time.Now()); !errors.Is(err, errs.Invalid) {
		t.Errorf("no chain: %v", err)
	}
	for _, text := range []string{"", "rubbish", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"} {
		if _, err := pki.ParseIdentity([]byte(text)); !errors.Is(err, errs.Invalid) {
			t.Errorf("PEM %q: %v", text, err)
		}
	}
}

func TestSecretFilesThatOthersCanReachAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.pem")
	if err := newWorld(t, 1).agent(1, time.Hour).Save(path); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o440: true, 0o644: false, 0o604: false, 0o660: false, 0o666: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := pki.LoadIdentity(path)
		if ok && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !ok && (!errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "chmod 600 "+path)) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if _, err := pki.LoadIdentity(path + ".no"); !errors.Is(err, errs.NotFound) {
		t.Errorf("missing: %v", err)
	}
}
