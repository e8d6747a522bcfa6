package seal_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/tuskvault/tuskvault/internal/seal"
)

// The values below were written once. A difference means that repositories
// written before can no longer be read: change them only together with the
// format number.

// goldenArgon2id is a wrap of the master key 01 00 … 00 for the passphrase
// "correct", at cheapArgon2id, without associated data.
const goldenArgon2id = "54564b57000200000000000100000040000000019973c194d43e719381a0179fa43d0749fdedc210acfcf12f92879a4ac16a901c456fe13c99c1e6cebeee81ec" +
	"ffbdb9e2036b2e63f1df6cb38def46207a68b3865ae0e3cea2ad4a14eac02da5da19393b8b2b1f96382acfc6d03996bbaa0314e6de4e86d69a6e40937f9087fe" +
	"3d70c9f589ffc87d99b0c3bdf458b8f7802bc099e44b413386739f177098128194fd7fb6ef302be64eaf9571f6d46175"

// goldenFrame is a frame of the rows below, in epoch 7 of the test's domain.
const goldenFrame = "545646520001000000000007000000347a39425ade395d3a9dc7cc2120a872eeb977dcb9c2a1d7c8605b6dc644ceda670ef84ce868bf640f259c515761556748" +
	"fb94821d71f8a894a76991170b2f249499c1ee72b7d3f87df5df7dc1b7259602f8f0140e"

const goldenRows = "1\tone\n2\ttwo\n3\tthree\n"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDerivedKeysDoNotChange(t *testing.T) {
	d := fixedKeys()
	m := seal.MasterKey(d.Data)
	for what, k := range map[string]struct {
		got  seal.Key
		root seal.Key
		info string
		want string
	}{
		"wrap-domain": {m.WrapDomain(), d.Data, "wrap-domain", "793785900e62a575"},
		"catalog":     {m.Catalog(), d.Data, "catalog", "614bde79b3301867"},
		"ca":          {m.CA(), d.Data, "ca", "754811b46833f0eb"},
		"name":        {d.Name(), d.Data, "name", "cd96409196888cf1"},
		"cut":         {d.Cut(), d.Data, "cut", "0ae032ff9200547b"},
		"refs":        {d.Refs(), d.Data, "refs", "8cb33b6ea80c4ba2"},
		"seal 7":      {d.Seal(7), d.Data, "seal\x00\x00\x00\x07", "2129b52fb49363ab"},
		"seal max":    {d.Seal(1<<32 - 1), d.Data, "seal\xff\xff\xff\xff", "535b5817f529bba1"},
		"pack":        {d.Pack(), d.Control, "pack", "8c0f4bdcce4d7bde"},
		"commit":      {d.Commit(), d.Control, "commit", "173ef1ec1d0f876e"},
	} {
		if got := hex.EncodeToString(k.got[:8]); got != k.want {
			t.Errorf("%s: %s, want %s", what, got, k.want)
		}
		if !bytes.Equal(k.got[:], expand(k.root[:], k.info)) {
			t.Errorf("%s: not HKDF-Expand", what)
		}
	}
}

func TestNamesDoNotChange(t *testing.T) {
	n := seal.NewNamer(fixedKeys().Name())
	for kind, want := range map[seal.Kind]string{
		seal.KindRowsText: "7a39425ade395d3a9dc7cc2120a872eeb977dcb9c2a1d7c8605b6dc644ceda67",
		seal.KindList:     "28d0fa58304a7d326c367d06d10efd4446ee22078292fcd97fa8731321666b29",
	} {
		if got := n.Name(kind, []byte(goldenRows)).String(); got != want {
			t.Errorf("kind %d: %s, want %s", kind, got, want)
		}
	}
}

func TestAFrameOfOldStillOpens(t *testing.T) {
	r := newRing()
	frame := unhex(t, goldenFrame)
	name := r.namer.Name(seal.KindRowsText, []byte(goldenRows))
	got, err := r.opener.Open(nil, frame, seal.KindRowsText, name)
	if err != nil || string(got) != goldenRows {
		t.Fatalf("%q, %v", got, err)
	}
	// And what is sealed today has its layout: all but the nonce and what
	// depends on it is the same.
	_, again := r.frame(t, seal.KindRowsText, []byte(goldenRows))
	if len(again) != len(frame) || !bytes.Equal(again[:seal.HeaderSize], frame[:seal.HeaderSize]) {
		t.Errorf("today's frame is\n%x", again)
	}
}

func TestAWrapOfOldStillOpens(t *testing.T) {
	p := passphrase(t, "correct", cheapPBKDF2)
	if m, err := p.Unwrap(unhex(t, goldenArgon2id), nil); err != nil || m != (seal.MasterKey{1}) {
		t.Error(err)
	}
}
