package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const fixedKeyFile = "TUSKVAULT-KEY-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"

var (
	cheapArgon2id = seal.KDF{Kind: seal.WrapArgon2id, Time: 1, MemoryKiB: 64, Threads: 1}
	cheapPBKDF2   = seal.KDF{Kind: seal.WrapPBKDF2, Time: 1000}
)

func passphrase(t testing.TB, text string, kdf seal.KDF) *seal.Passphrase {
	t.Helper()
	p, err := seal.NewPassphraseKDF(text, kdf)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unlockers are pairs of a right and a wrong secret of one kind.
func unlockers(t testing.TB) map[seal.WrapKind][2]seal.Unlocker {
	return map[seal.WrapKind][2]seal.Unlocker{
		seal.WrapKeyFile:  {seal.NewKeyFile(), seal.NewKeyFile()},
		seal.WrapArgon2id: {passphrase(t, "right", cheapArgon2id), passphrase(t, "wrong", cheapArgon2id)},
		seal.WrapPBKDF2:   {passphrase(t, "right", cheapPBKDF2), passphrase(t, "wrong", cheapPBKDF2)},
	}
}

func TestTheMasterKeyIsUnlocked(t *testing.T) {
	aad := []byte("keys/1")
	for kind, u := range unlockers(t) {
		m := seal.NewMasterKey()
		w, err := u[0].Wrap(m, aad)
		if err != nil {
			t.Fatal(err)
		}
		if len(w) != seal.WrapSize {
			t.Errorf("%s: %d bytes", kind, len(w))
		}
		if got, err := seal.WrapKindOf(w); err != nil || got != kind {
			t.Errorf("%s: kind %s, %v", kind, got, err)
		}
		if got, err := u[0].Unwrap(w, aad); err != nil || got != m {
			t.Errorf("%s: %v", kind, err)
		}
		if again, err := u[0].Wrap(m, aad); err != nil || bytes.Equal(again, w) {
			t.Errorf("%s: wrapped twice to the same bytes: %v", kind, err)
		}
	}
}

func TestAWrongSecretIsDeniedAndADamagedWrapIsCorrupt(t *testing.T) {
	aad := []byte("keys/1")
	all := unlockers(t)
	for kind, u := range all {
		w, err := u[0].Wrap(seal.NewMasterKey(), aad)
		if err != nil {
			t.Fatal(err)
		}
		m, err := u[1].Unwrap(w, aad)
		if !errors.Is(err, errs.Denied) || errors.Is(err, errs.Corrupt) || m != (seal.MasterKey{}) {
			t.Errorf("%s, wrong secret: %v", kind, err)
		}
		if want := map[bool]string{true: "not the key file", false: "wrong passphrase"}[kind == seal.WrapKeyFile]; !strings.Contains(err.Error(), want) {
			t.Errorf("%s, wrong secret: %q does not say %q", kind, err, want)
		}
		for i := range w {
			bad := bytes.Clone(w)
			bad[i] ^= 1
			if m, err := u[0].Unwrap(bad, aad); !errors.Is(err, errs.Corrupt) || errors.Is(err, errs.Denied) || m != (seal.MasterKey{}) {
				t.Fatalf("%s, byte %d: %v", kind, i, err)
			}
		}
		for n := range w {
			if _, err := u[0].Unwrap(w[:n], aad); !errors.Is(err, errs.Corrupt) {
				t.Fatalf("%s, %d bytes: %v", kind, n, err)
			}
		}
		if _, err := u[0].Unwrap(w, []byte("keys/2")); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s, elsewhere: %v", kind, err)
		}
	}
	byFile, err := all[seal.WrapKeyFile][0].Wrap(seal.MasterKey{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all[seal.WrapPBKDF2][0].Unwrap(byFile, nil); !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "needs a key file") {
		t.Errorf("passphrase for a key file: %v", err)
	}
	byText, err := all[seal.WrapPBKDF2][0].Wrap(seal.MasterKey{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all[seal.WrapKeyFile][0].Unwrap(byText, nil); !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "needs a passphrase") {
		t.Errorf("key file for a passphrase: %v", err)
	}
}

// rewritten changes a wrap and makes its checksum right again, as somebody who
// can write to the store would.
func rewritten(w []byte, change func([]byte)) []byte {
	w = bytes.Clone(w)
	change(w)
	sum := sha256.Sum256(w[:len(w)-32])
	copy(w[len(w)-32:], sum[:])
	return w
}

func TestAHostileWrapIsNoMemoryBombAndOpensNothing(t *testing.T) {
	for kind, u := range unlockers(t) {
		w, err := u[0].Wrap(seal.NewMasterKey(), nil)
		if err != nil {
			t.Fatal(err)
		}
		// Of every byte but those of the costs, which are tested below.
		for i := range w[:len(w)-32] {
			if i >= 8 && i < 20 {
				continue
			}
			if m, err := u[0].Unwrap(rewritten(w, func(w []byte) { w[i] ^= 0x80 }), nil); err == nil || m != (seal.MasterKey{}) {
				t.Fatalf("%s: byte %d changed and opened", kind, i)
			}
		}
		if kind == seal.WrapKeyFile {
			continue
		}
		for at, values := range map[int][]uint32{8: {0, 17, 20_000_001, 1<<32 - 1}, 12: {1, 512<<10 + 1, 1<<32 - 1}, 16: {17, 255, 256, 1<<32 - 1}} {
			for _, v := range values {
				if kind == seal.WrapPBKDF2 && at == 8 && v == 17 {
					v = 999
				}
				_, err := u[0].Unwrap(rewritten(w, func(w []byte) { binary.BigEndian.PutUint32(w[at:], v) }), nil)
				if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "out of bounds") {
					t.Errorf("%s: %d at %d: %v", kind, v, at, err)
				}
			}
		}
	}
	w, err := seal.NewKeyFile().Wrap(seal.MasterKey{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{4, 5} {
		_, err := seal.WrapKindOf(rewritten(w, func(w []byte) { w[at] = 77 }))
		if !errors.Is(err, errs.Unsupported) {
			t.Errorf("newer byte %d: %v", at, err)
		}
	}
}

func TestCostsAreBoundedWhenWriting(t *testing.T) {
	for _, k := range []seal.KDF{
		{}, {Kind: seal.WrapKeyFile, Time: 1}, {Kind: seal.WrapArgon2id, Time: 0, MemoryKiB: 64, Threads: 1},
		{Kind: seal.WrapArgon2id, Time: 1, MemoryKiB: 15, Threads: 2}, {Kind: seal.WrapPBKDF2, Time: 999},
		{Kind: seal.WrapPBKDF2, Time: 1000, MemoryKiB: 1},
	} {
		if _, err := seal.NewPassphraseKDF("x", k); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", k, err)
		}
	}
	if _, err := seal.NewPassphrase(""); !errors.Is(err, errs.Invalid) {
		t.Errorf("empty passphrase: %v", err)
	}
}

func TestTheDefaultPassphraseUnlocks(t *testing.T) {
	p, err := seal.NewPassphrase("correct horse battery staple")
	if err != nil {
		t.Fatal(err)
	}
	m := seal.NewMasterKey()
	w, err := p.Wrap(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Unwrap(w, nil); err != nil || got != m {
		t.Error(err)
	}
}

func TestAKeyFileIsReadAsItWasWritten(t *testing.T) {
	k := seal.NewKeyFile()
	w, err := k.Wrap(seal.MasterKey{5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(k.Text()), "\n  " + string(k.Text()) + "\r\n", strings.TrimSpace(string(k.Text()))} {
		again, err := seal.ParseKeyFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := again.Unwrap(w, nil); err != nil || m != (seal.MasterKey{5}) {
			t.Error(err)
		}
	}
	secret := strings.TrimSpace(strings.TrimPrefix(string(k.Text()), "TUSKVAULT-KEY-1 "))
	for _, text := range []string{"", secret, "TUSKVAULT-KEY-1", "TUSKVAULT-KEY-2 " + secret, "TUSKVAULT-KEY-1 " + secret[1:], "TUSKVAULT-KEY-1 " + secret + secret,
		"TUSKVAULT-KEY-1 AAEC"} {
		_, err := seal.ParseKeyFile([]byte(text))
		if !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), secret[1:20]) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestADerivedSecretWrapsAsTheSecretDoes(t *testing.T) {
	m, aad := seal.NewMasterKey(), []byte("keys/1")
	file, phrase := seal.NewKeyFile(), passphrase(t, "right", cheapArgon2id)
	of, err := phrase.Derive()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		derived *seal.Derived
		secret  seal.Unlocker
	}{{file.Derive(), file}, {of, phrase}} {
		kind, kdf, salt, root := test.derived.Parts()
		sent, err := seal.NewDerived(kind, kdf, salt, root)
		if err != nil {
			t.Fatal(err)
		}
		w, err := sent.Wrap(m, aad)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range []seal.Unlocker{sent, test.secret} {
			if got, err := u.Unwrap(w, aad); err != nil || got != m {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if shown := sent.String(); strings.Contains(shown, string(root[:4])) || !strings.Contains(shown, "redacted") {
			t.Errorf("it shows itself: %s", shown)
		}
	}
	for name, kdf := range map[string]seal.KDF{"no cost": {Kind: seal.WrapArgon2id}, "a memory bomb": {Kind: seal.WrapArgon2id, Time: 1, MemoryKiB: 1 << 30, Threads: 1},
		"a time bomb": {Kind: seal.WrapPBKDF2, Time: 1 << 31}, "a cost of a key file": {Kind: seal.WrapKeyFile, Time: 1}, "age": {Kind: seal.WrapAge}} {
		if _, err := seal.NewDerived(kdf.Kind, kdf, [32]byte{}, [32]byte{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
