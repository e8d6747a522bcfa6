package seal_test

import (
	"bytes"
	"testing"

	"github.com/tuskvault/tuskvault/internal/seal"
)

func FuzzParseHeader(f *testing.F) {
	r := newRing()
	_, frame := r.frame(f, seal.KindRowsText, []byte("rows"))
	f.Add(frame)
	f.Add(frame[:seal.HeaderSize])
	f.Add([]byte("TVFR"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := seal.ParseHeader(b)
		if err != nil {
			return
		}
		if n := h.FrameLength(); n < seal.MinFrame || n > seal.MaxFrame(seal.LargestPlain) {
			t.Errorf("length %d", n)
		}
	})
}

func FuzzOpen(f *testing.F) {
	r := newRing()
	_, frame := r.frame(f, seal.KindRowsText, []byte("rows"))
	f.Add(frame)
	_, list := r.frame(f, seal.KindList, bytes.Repeat([]byte("list"), 100))
	f.Add(list)
	for _, frame := range hostile(f, r) {
		if len(frame) < 10_000 {
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := seal.ParseHeader(b)
		if err != nil {
			return
		}
		opened(t, r, b, h.Kind, h.Name)
	})
}

// FuzzOpenWhatAHostileHostSealed goes beyond the tag, which chance never finds.
func FuzzOpenWhatAHostileHostSealed(f *testing.F) {
	r := newRing()
	f.Add(byte(0), declared(3, []byte("abc")))
	f.Add(byte(1), declared(100, compressed(f, make([]byte, 100))))
	f.Add(byte(1), declared(1<<20, compressed(f, make([]byte, 1<<20))))
	f.Fuzz(func(t *testing.T, compression byte, sealed []byte) {
		if len(sealed) < 4 || len(sealed) > maxPlain {
			return
		}
		name := r.namer.Name(seal.KindRowsText, nil)
		opened(t, r, r.forge(t, seal.KindRowsText, compression&1, name, sealed), seal.KindRowsText, name)
	})
}

func opened(t *testing.T, r *ring, frame []byte, kind seal.Kind, name seal.Name) {
	t.Helper()
	plain, err := r.opener.Open(nil, frame, kind, name)
	if err == nil && r.namer.Name(kind, plain) != name {
		t.Errorf("%d bytes of another name were given out", len(plain))
	}
	if err != nil && plain != nil {
		t.Errorf("%d bytes were given out with %v", len(plain), err)
	}
}

func FuzzUnwrap(f *testing.F) {
	k, err := seal.ParseKeyFile([]byte(fixedKeyFile))
	if err != nil {
		f.Fatal(err)
	}
	p, err := seal.NewPassphraseKDF("correct", cheapPBKDF2)
	if err != nil {
		f.Fatal(err)
	}
	for _, u := range []seal.Unlocker{k, p} {
		w, err := u.Wrap(seal.MasterKey{1}, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := k.Unwrap(b, nil); err == nil && m != (seal.MasterKey{1}) {
			t.Error("another key")
		}
		if m, err := p.Unwrap(b, nil); err == nil && m != (seal.MasterKey{1}) {
			t.Error("another key")
		}
	})
}
