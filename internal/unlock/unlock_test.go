package unlock_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// identity makes an age identity as age-keygen writes it.
func identity(t testing.TB) (text, recipient string) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	must(t, err)
	return fmt.Sprintf("# created: today\n# public key: %s\n%s\n", i.Recipient(), i), i.Recipient().String()
}

func TestAnAgeRecipientWrapsWhatItsIdentityUnwraps(t *testing.T) {
	text, to := identity(t)
	recipient, err := unlock.ParseRecipient(to)
	must(t, err)
	m, aad := seal.NewMasterKey(), []byte("keys/1")
	wrapped, err := recipient.Wrap(m, aad)
	must(t, err)
	if kind, err := seal.WrapKindOf(wrapped); err != nil || kind != seal.WrapAge {
		t.Errorf("kind %s, %v", kind, err)
	}
	own, err := unlock.Parse(text)
	must(t, err)
	if got, err := own.Unwrap(wrapped, aad); err != nil || got != m {
		t.Errorf("unwrap: %v", err)
	}
	otherText, _ := identity(t)
	other, err := unlock.Parse(otherText)
	must(t, err)
	passphrase, err := unlock.Parse("correct horse battery staple")
	must(t, err)
	for name, u := range map[string]seal.Unlocker{"another identity": other, "a key file": seal.NewKeyFile(), "a passphrase": passphrase} {
		if _, err := u.Unwrap(wrapped, aad); errs.KindOf(err) != errs.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	keyFileWrap, err := seal.NewKeyFile().Wrap(m, aad)
	must(t, err)
	if _, err := own.Unwrap(keyFileWrap, aad); errs.KindOf(err) != errs.Denied {
		t.Errorf("an identity on a key file's wrap: %v", err)
	}
	if _, err := own.Unwrap(wrapped, []byte("keys/2")); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("elsewhere: %v", err)
	}
	if _, err := recipient.Unwrap(wrapped, aad); errs.KindOf(err) != errs.Unsupported {
		t.Errorf("a recipient alone: %v", err)
	}
}

func TestEveryChangeOfAnAgeWrapIsFound(t *testing.T) {
	text, to := identity(t)
	recipient, err := unlock.ParseRecipient(to)
	must(t, err)
	own, err := unlock.Parse(text)
	must(t, err)
	wrapped, err := recipient.Wrap(seal.NewMasterKey(), nil)
	must(t, err)
	for i := range wrapped {
		harmed := bytes.Clone(wrapped)
		harmed[i] ^= 1
		if _, err := own.Unwrap(harmed, nil); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
	for _, n := range []int{0, seal.WrapSize, len(wrapped) - 1} {
		if _, err := own.Unwrap(wrapped[:n], nil); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := own.Unwrap(append(wrapped, make([]byte, seal.MaxTrailer)...), nil); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("too long: %v", err)
	}
}

// sheet is a sheet with words of people around it, and what its key opens.
func sheet(t testing.TB) (lines []string, wrapped []byte, m seal.MasterKey) {
	t.Helper()
	k := seal.NewKeyFile()
	m = seal.NewMasterKey()
	wrapped, err := k.Wrap(m, nil)
	must(t, err)
	return unlock.Sheet(k), wrapped, m
}

func TestASheetIsReadAsSomebodyTypesIt(t *testing.T) {
	lines, wrapped, m := sheet(t)
	plain := strings.Join(lines, "\n")
	for name, text := range map[string]string{
		"as printed":        plain,
		"upper case":        strings.ToUpper(plain),
		"other white space": strings.ReplaceAll(plain, "  ", "\t ") + "\r\n",
		"with the page":     "Tuskvault recovery sheet\n\nkey 1 of 2\n" + plain + "\n\nTo use it, type …\n",
		"rows out of order": strings.Join(append([]string{lines[0]}, lines[5], lines[1], lines[2], lines[3], lines[4], lines[8], lines[7], lines[6]), "\n"),
	} {
		u, err := unlock.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := u.Unwrap(wrapped, nil); err != nil || got != m {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMistypedSheetNamesItsRowAndRepeatsNothing(t *testing.T) {
	lines, _, _ := sheet(t)
	refused := func(name string, changed []string, says string) {
		t.Helper()
		_, err := unlock.Parse(strings.Join(changed, "\n"))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
		for _, w := range strings.Fields(strings.Join(lines[1:], " ")) {
			if len(w) == 5 && strings.Contains(fmt.Sprint(err), w) {
				t.Errorf("%s: the error repeats %q", name, w)
			}
		}
	}
	change := func(row int, line string) []string {
		out := append([]string(nil), lines...)
		out[row] = line
		return out
	}
	// Each letter of a row replaced by each other one of its kind.
	for i, c := range lines[3] {
		if c < 'a' || c > 'z' {
			continue
		}
		set := "bdfghjklmnprstvz"
		if strings.ContainsRune("aiou", c) {
			set = "aiou"
		}
		for _, other := range set {
			if other != c {
				refused(fmt.Sprintf("letter %d", i), change(3, lines[3][:i]+string(other)+lines[3][i+1:]), "row 3")
			}
		}
	}
	refused("a letter that is in no word", change(4, strings.Replace(lines[4], lines[4][4:5], "x", 1)), "row 4: word 1")
	refused("a row is missing", change(5, ""), "row 5 is missing")
	refused("a row is twice there", append(lines, lines[2]), "row 2 is there twice")
	refused("two rows change places", change(1, "1"+lines[2][2:]), "row 1")
}

func TestASecretsTextIsWhatItSeemsToBe(t *testing.T) {
	text, _ := identity(t)
	lines, _, _ := sheet(t)
	for want, text := range map[string]string{
		"*seal.KeyFile":    string(seal.NewKeyFile().Text()),
		"*unlock.Identity": text,
		"*seal.Passphrase": "1  lusab babad  gutih",
	} {
		if u, err := unlock.Parse(text); err != nil || fmt.Sprintf("%T", u) != want {
			t.Errorf("%T, %v, want %s", u, err, want)
		}
	}
	if u, err := unlock.Parse(strings.Join(lines, "\n")); err != nil || fmt.Sprintf("%T", u) != "*seal.KeyFile" {
		t.Errorf("%T, %v", u, err)
	}
	// A damaged identity is no passphrase.
	if _, err := unlock.Parse(strings.Replace(text, "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1Q", 1)); errs.KindOf(err) != errs.Invalid || strings.Contains(fmt.Sprint(err), "SECRET-KEY") {
		t.Errorf("a damaged identity: %v", err)
	}
	u, err := unlock.Parse(text)
	must(t, err)
	if shown := fmt.Sprintf("%v %+v %#v %s", u, u, u, u); strings.Contains(shown, "AGE-SECRET") {
		t.Error("an identity shows itself")
	}
}

func TestAWordOfASheetIsRandomAndReadAsTyped(t *testing.T) {
	w := unlock.ConfirmWord()
	if w == unlock.ConfirmWord() || len(w) != 11 {
		t.Errorf("word %q", w)
	}
	if unlock.Confirmation(" "+strings.ToUpper(w)+"\n") != unlock.Confirmation(w) {
		t.Error("case and white space matter")
	}
}

func FuzzParseSheet(f *testing.F) {
	lines := unlock.Sheet(seal.NewKeyFile())
	f.Add(strings.Join(lines, "\n"))
	f.Add("TUSKVAULT-SHEET-1\n1 babab babab babab")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := unlock.ParseSheet(text)
		if err != nil {
			return
		}
		again, err := unlock.ParseSheet(strings.Join(unlock.Sheet(k), "\n"))
		if err != nil || !bytes.Equal(again.Text(), k.Text()) {
			t.Errorf("%q is read as another key: %v", text, err)
		}
	})
}
