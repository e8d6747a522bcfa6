package seal_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestSecretsAreNeverPrinted(t *testing.T) {
	secret := "0123456789abcdefghijklmnopqrstuv"
	key := seal.Key([]byte(secret))
	file, err := seal.ParseKeyFile([]byte("TUSKVAULT-KEY-1 " + base64.StdEncoding.EncodeToString([]byte(secret))))
	if err != nil {
		t.Fatal(err)
	}
	values := []any{
		key, &key, seal.MasterKey(key), seal.DomainKeys{Data: key, Control: key}, []seal.Key{key}, map[uint32]seal.Key{1: key},
		struct{ K seal.Key }{key}, seal.NewNamer(key), seal.NewSealer(seal.DomainID{}, 1, key, key),
		seal.NewOpener(seal.DomainID{}, key, key, map[uint32]seal.Key{1: key}, 10), file, passphrase(t, secret, cheapPBKDF2),
	}
	hexed := hex.EncodeToString([]byte(secret))[8:24]
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c"} {
			got := fmt.Sprintf(verb, v)
			for _, leak := range []string{secret[4:12], hexed, strings.ToUpper(hexed), "52 53 54 55", "52, 53, 54", "0x34, 0x35, 0x36", "64 65 66 67"} {
				if strings.Contains(got, leak) {
					t.Errorf("%s of %T gives %s", verb, v, got)
				}
			}
		}
	}
	for _, v := range []any{key, seal.MasterKey(key), seal.DomainKeys{}, map[string]seal.Key{"a": key}, map[seal.Key]int{key: 1}} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("%T as JSON: %s", v, b)
		}
	}
}

// inner tells a test process that it was started by TestFIPSMode.
const inner = "TUSKVAULT_TEST_FIPS"

// TestFIPSMode runs tests again in a process that allows approved calls only.
func TestFIPSMode(t *testing.T) {
	if os.Getenv(inner) != "" {
		t.Skip("this is the inner process")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const tests = "^(TestInFIPSMode.*|TestWhatIsSealedOpensAgain|TestABlobOpensOnlyWithItsKeyPurposeAndPlace)$"
	cmd := exec.CommandContext(t.Context(), program, "-test.run", tests, "-test.v")
	cmd.Env = append(os.Environ(), inner+"=1", "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestInFIPSMode") {
		t.Fatalf("the inner test did not run:\n%s", out)
	}
}

func TestInFIPSModeOnlyKeyFilesAndPBKDF2Unlock(t *testing.T) {
	if os.Getenv(inner) == "" {
		t.Skip("run by TestFIPSMode")
	}
	if k := seal.DefaultKDF(); k.Kind != seal.WrapPBKDF2 {
		t.Errorf("default is %s", k.Kind)
	}
	if _, err := seal.NewPassphraseKDF("x", cheapArgon2id); err == nil || !strings.Contains(err.Error(), "FIPS mode allows only a key file or a passphrase by pbkdf2-hmac-sha256") {
		t.Errorf("argon2id: %v", err)
	}
	for _, u := range []seal.Unlocker{seal.NewKeyFile(), passphrase(t, "a passphrase", cheapPBKDF2)} {
		w, err := u.Wrap(seal.MasterKey{1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := u.Unwrap(w, nil); err != nil || m != (seal.MasterKey{1}) {
			t.Error(err)
		}
	}
	wrapped, err := hex.DecodeString(goldenArgon2id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passphrase(t, "correct", cheapPBKDF2).Unwrap(wrapped, nil); err == nil || !strings.Contains(err.Error(), "FIPS mode allows only") {
		t.Errorf("a wrap by argon2id: %v", err)
	}
}
