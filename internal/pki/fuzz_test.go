package pki_test

import (
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/pki"
)

// FuzzParse gives any text to whatever reads certificates, keys and tokens; all of
// it may come from a store or over the wire.
func FuzzParse(f *testing.F) {
	root, err := pki.NewRoot([16]byte{1, 2}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	issuer, err := root.Issuer(3, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []func() ([]byte, error){root.PEM, issuer.PEM} {
		b, err := text()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	token := pki.NewJoinToken(issuer.Root())
	f.Add([]byte(token.Text()))
	f.Add([]byte(token.Credential()))
	f.Add([]byte("tv1.00.zz.="))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := pki.ParseJoinToken(string(text)); err == nil {
			if again, err := pki.ParseJoinToken(got.Text()); err != nil || again != got {
				t.Fatalf("a token that does not read again: %v", err)
			}
		}
		if _, _, err := pki.ParseCredential(string(text)); err != nil && len(err.Error()) > 200 {
			t.Fatalf("an error that repeats the credential: %v", err)
		}
		if r, err := pki.ParseRoot(text); err == nil {
			if _, err := r.PEM(); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = pki.ParseIssuer(text)   // taken or refused, never a panic
		_, _ = pki.ParseIdentity(text) // the same
	})
}
