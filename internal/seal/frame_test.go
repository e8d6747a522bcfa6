package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxPlain = 1 << 20

// ring is a domain with two epochs.
type ring struct {
	id     seal.DomainID
	keys   seal.DomainKeys
	namer  *seal.Namer
	sealer *seal.Sealer
	opener *seal.Opener
}

func newRing() *ring {
	r := &ring{id: seal.DomainID{1, 2, 3}, keys: fixedKeys()}
	r.namer = seal.NewNamer(r.keys.Name())
	r.sealer = seal.NewSealer(r.id, 7, r.keys.Seal(7), r.keys.Refs())
	r.opener = r.open(maxPlain)
	return r
}

func (r *ring) open(limit int) *seal.Opener {
	return seal.NewOpener(r.id, r.keys.Name(), r.keys.Refs(), map[uint32]seal.Key{6: r.keys.Seal(6), 7: r.keys.Seal(7)}, limit)
}

func fixedKeys() seal.DomainKeys {
	var k seal.DomainKeys
	for i := range k.Data {
		k.Data[i], k.Control[i] = byte(i), byte(i+100)
	}
	return k
}

// frame seals with the package.
func (r *ring) frame(t testing.TB, kind seal.Kind, plain []byte) (seal.Name, []byte) {
	t.Helper()
	name := r.namer.Name(kind, plain)
	f, err := r.sealer.Seal(nil, kind, name, plain)
	if err != nil {
		t.Fatal(err)
	}
	return name, f
}

// expand is HKDF-Expand for one block of output, written from RFC 5869.
func expand(key []byte, info string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(info))
	m.Write([]byte{1})
	return m.Sum(nil)
}

// forge seals any bytes under the right keys, as docs/FORMAT.md describes it
// and without the package: what a hostile host of the domain can do.
func (r *ring) forge(t testing.TB, kind seal.Kind, compression byte, name seal.Name, sealed []byte) []byte {
	t.Helper()
	header := append([]byte("TVFR"), 0, byte(kind), compression, 0)
	header = binary.BigEndian.AppendUint32(header, 7)
	header = binary.BigEndian.AppendUint32(header, uint32(12+len(sealed)+16))
	header = append(header, name[:]...)
	parent := expand(r.keys.Data[:], "seal\x00\x00\x00\x07")
	block, err := aes.NewCipher(expand(parent, "frame"+string([]byte{byte(kind)})+string(name[:])))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("twelve bytes")
	return gcm.Seal(append(bytes.Clone(header), nonce...), nonce, sealed, append(bytes.Clone(r.id[:]), header...))
}

func declared(n uint32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), body...)
}

func compressed(t testing.TB, plain []byte, o ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, append(o, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(plain, nil)
}

func TestWhatIsSealedOpensAgain(t *testing.T) {
	r := newRing()
	rapid.Check(t, func(t *rapid.T) {
		kind := seal.Kind(rapid.IntRange(1, 8).Draw(t, "kind"))
		plain := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plain")
		plain = bytes.Repeat(plain, rapid.IntRange(0, 100).Draw(t, "times"))
		name := r.namer.Name(kind, plain)
		frame, err := r.sealer.Seal([]byte("before"), kind, name, plain)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(frame, []byte("before")) {
			t.Fatal("what was in dst is gone")
		}
		frame = frame[len("before"):]
		h, err := seal.ParseHeader(frame)
		if err != nil || h.FrameLength() != len(frame) || h.Kind != kind || h.Name != name || len(frame) > seal.MaxFrame(len(plain)) {
			t.Fatalf("header %+v of %d bytes: %v", h, len(frame), err)
		}
		got, err := r.opener.Open([]byte("there"), frame, kind, name)
		if err != nil || !bytes.Equal(got, append([]byte("there"), plain...)) {
			t.Fatalf("opened %d of %d bytes: %v", len(got), len(plain), err)
		}
	})
}

func TestCompressionIsUsedWhenItPays(t *testing.T) {
	r := newRing()
	_, frame := r.frame(t, seal.KindRowsText, bytes.Repeat([]byte("one row like the other\n"), 1000))
	if h, err := seal.ParseHeader(frame); err != nil || h.Compression != seal.Zstd || len(frame) > 1000 {
		t.Errorf("rows: %+v, %d bytes, %v", h, len(frame), err)
	}
	noise := make([]byte, 100_000)
	g := rand.NewChaCha8([32]byte{1})
	_, _ = g.Read(noise)
	_, frame = r.frame(t, seal.KindLargeObject, noise)
	if h, err := seal.ParseHeader(frame); err != nil || h.Compression != seal.None || len(frame) != seal.MaxFrame(len(noise)) {
		t.Errorf("noise: %+v, %d bytes, %v", h, len(frame), err)
	}
}

func TestDigitsWithoutRepeatsAreStoredInHalf(t *testing.T) {
	r := newRing()
	random := make([]byte, 100<<10)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(random) // never fails
	plain := []byte(hex.EncodeToString(random))      // as COPY writes bytea
	_, f := r.frame(t, seal.KindRowsText, plain)
	if most := len(plain) * 53 / 100; len(f) > most {
		t.Errorf("%d hexadecimal digits take a frame of %d bytes, more than %d", len(plain), len(f), most)
	}
}

func TestChunkListsNeedNoEpoch(t *testing.T) {
	r := newRing()
	name, frame := r.frame(t, seal.KindList, []byte("a list"))
	if h, err := seal.ParseHeader(frame); err != nil || h.Epoch != 0 {
		t.Errorf("%+v, %v", h, err)
	}
	o := seal.NewOpener(r.id, r.keys.Name(), r.keys.Refs(), nil, maxPlain)
	if got, err := o.Open(nil, frame, seal.KindList, name); err != nil || string(got) != "a list" {
		t.Errorf("%q, %v", got, err)
	}
	data, frame := r.frame(t, seal.KindRowsText, []byte("rows"))
	if got, err := o.Open(nil, frame, seal.KindRowsText, data); !errors.Is(err, errs.Denied) || got != nil {
		t.Errorf("rows without a key of their epoch: %q, %v", got, err)
	}
}

func TestEveryChangedByteIsFound(t *testing.T) {
	r := newRing()
	for _, plain := range [][]byte{[]byte("stored as it is"), bytes.Repeat([]byte("compressed "), 50)} {
		name, frame := r.frame(t, seal.KindRowsText, plain)
		for i := range frame {
			for bit := range 8 {
				bad := bytes.Clone(frame)
				bad[i] ^= 1 << bit
				got, err := r.opener.Open(nil, bad, seal.KindRowsText, name)
				refused := errors.Is(err, errs.Corrupt)
				switch { // a changed format or epoch number is not known to be damage
				case i == 4:
					refused = errors.Is(err, errs.Unsupported)
				case i >= 8 && i < 12:
					refused = refused || errors.Is(err, errs.Denied)
				}
				if !refused || got != nil {
					t.Fatalf("byte %d, bit %d: %q, %v", i, bit, got, err)
				}
			}
		}
	}
}

func TestEveryCutShortFrameIsFound(t *testing.T) {
	r := newRing()
	name, frame := r.frame(t, seal.KindRowsText, bytes.Repeat([]byte("compressed "), 50))
	for n := range frame {
		if got, err := r.opener.Open(nil, frame[:n], seal.KindRowsText, name); !errors.Is(err, errs.Corrupt) || got != nil {
			t.Fatalf("%d of %d bytes: %q, %v", n, len(frame), got, err)
		}
	}
	if _, err := r.opener.Open(nil, append(bytes.Clone(frame), 0), seal.KindRowsText, name); !errors.Is(err, errs.Corrupt) {
		t.Errorf("one byte too many: %v", err)
	}
}

func TestAFrameIsBoundToDomainKindAndName(t *testing.T) {
	r := newRing()
	name, frame := r.frame(t, seal.KindRowsText, []byte("rows"))
	other := seal.NewOpener(seal.DomainID{9}, r.keys.Name(), r.keys.Refs(), map[uint32]seal.Key{7: r.keys.Seal(7)}, maxPlain)
	if _, err := other.Open(nil, frame, seal.KindRowsText, name); !errors.Is(err, errs.Corrupt) {
		t.Errorf("in another domain: %v", err)
	}
	if _, err := r.opener.Open(nil, frame, seal.KindRowsBinary, name); !errors.Is(err, errs.Corrupt) {
		t.Errorf("as another kind: %v", err)
	}
	if _, err := r.opener.Open(nil, frame, seal.KindRowsText, r.namer.Name(seal.KindRowsText, []byte("others"))); !errors.Is(err, errs.Corrupt) {
		t.Errorf("under another name: %v", err)
	}
	wrong := seal.NewOpener(r.id, r.keys.Name(), r.keys.Refs(), map[uint32]seal.Key{7: r.keys.Seal(6)}, maxPlain)
	if _, err := wrong.Open(nil, frame, seal.KindRowsText, name); !errors.Is(err, errs.Corrupt) {
		t.Errorf("with the key of another epoch: %v", err)
	}
}

// hostile are frames whose tag verifies: a host of the domain has the keys.
func hostile(t testing.TB, r *ring) map[string][]byte {
	t.Helper()
	zeros := make([]byte, 64<<10)
	name := r.namer.Name(seal.KindRowsText, zeros)
	bomb := compressed(t, make([]byte, 8<<20), zstd.WithWindowSize(8<<20))
	return map[string][]byte{
		"another plaintext":          r.forge(t, seal.KindRowsText, 0, name, declared(3, []byte("abc"))),
		"declares too little":        r.forge(t, seal.KindRowsText, 1, name, declared(10, compressed(t, zeros))),
		"declares too much":          r.forge(t, seal.KindRowsText, 1, name, declared(100_000, compressed(t, zeros))),
		"declares 4 GiB":             r.forge(t, seal.KindRowsText, 1, name, declared(1<<32-1, compressed(t, zeros))),
		"declares 4 GiB, stored":     r.forge(t, seal.KindRowsText, 0, name, declared(1<<32-1, []byte("abc"))),
		"stored, cut short":          r.forge(t, seal.KindRowsText, 0, name, declared(64<<10, zeros[:100])),
		"bomb":                       r.forge(t, seal.KindRowsText, 1, name, declared(64<<10, bomb)),
		"bomb of the largest length": r.forge(t, seal.KindRowsText, 1, name, declared(maxPlain, bomb)),
		"not zstd":                   r.forge(t, seal.KindRowsText, 1, name, declared(64<<10, zeros[:100])),
		"zstd cut short":             r.forge(t, seal.KindRowsText, 1, name, declared(64<<10, compressed(t, zeros)[:9])),
		"empty zstd":                 r.forge(t, seal.KindRowsText, 1, name, declared(64<<10, nil)),
		"two zstd frames too many":   r.forge(t, seal.KindRowsText, 1, name, declared(64<<10, bytes.Repeat(compressed(t, zeros), 3))),
		"padding that says something": r.forge(t, seal.KindRowsText, 0, r.namer.Name(seal.KindRowsText, []byte("abc")),
			declared(3, []byte("abcd"))),
	}
}

func TestFramesOfAHostileHostAreRefusedWithinBounds(t *testing.T) {
	r := newRing()
	for what, frame := range hostile(t, r) {
		h, err := seal.ParseHeader(frame)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10, 4<<20)
		for i := range buf[:cap(buf)] {
			buf[:cap(buf)][i] = 0xEE
		}
		got, err := r.opener.Open(buf, frame, h.Kind, h.Name)
		if !errors.Is(err, errs.Corrupt) || got != nil {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		for i, b := range buf[:cap(buf)] {
			if i < 10 && b != 0xEE || b != 0 && b != 0xEE {
				t.Fatalf("%s: byte %d of the caller's buffer is %#x", what, i, b)
			}
		}
	}
	allocated := testing.Benchmark(func(b *testing.B) {
		frame := hostile(b, r)["declares 4 GiB"]
		h, err := seal.ParseHeader(frame)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = r.opener.Open(nil, frame, h.Kind, h.Name)
		}
	}).AllocedBytesPerOp()
	if allocated > 64<<10 {
		t.Errorf("%d bytes were allocated for a claim", allocated)
	}
}

func TestPaddingAndOtherEncodersAreRead(t *testing.T) {
	r := newRing()
	plain := bytes.Repeat([]byte("some rows\n"), 1000)
	name := r.namer.Name(seal.KindRowsText, plain)
	skippable := append([]byte{0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0}, 0, 0, 0, 0)
	for what, frame := range map[string][]byte{
		"stored":                     r.forge(t, seal.KindRowsText, 0, name, declared(10_000, plain)),
		"stored, padded":             r.forge(t, seal.KindRowsText, 0, name, declared(10_000, append(bytes.Clone(plain), 0, 0, 0))),
		"zstd, padded":               r.forge(t, seal.KindRowsText, 1, name, declared(10_000, append(compressed(t, plain), skippable...))),
		"zstd, best, with checksum":  r.forge(t, seal.KindRowsText, 1, name, declared(10_000, compressed(t, plain, zstd.WithEncoderLevel(zstd.SpeedBestCompression)))),
		"zstd, no single segment":    r.forge(t, seal.KindRowsText, 1, name, declared(10_000, compressed(t, plain, zstd.WithSingleSegment(false), zstd.WithWindowSize(1<<20)))),
		"zstd in two frames, joined": r.forge(t, seal.KindRowsText, 1, name, declared(10_000, append(compressed(t, plain[:4000]), compressed(t, plain[4000:])...))),
	} {
		if got, err := r.opener.Open([]byte("x"), frame, seal.KindRowsText, name); err != nil || !bytes.Equal(got[1:], plain) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
}

func TestAFrameLargerThanTheDomainAllowsIsRefused(t *testing.T) {
	r := newRing()
	small := r.open(1000)
	for _, n := range []int{1000, 1001} {
		plain := make([]byte, n)
		name, frame := r.frame(t, seal.KindRowsText, plain)
		if _, err := small.Open(nil, frame, seal.KindRowsText, name); (err == nil) != (n == 1000) || n > 1000 && !errors.Is(err, errs.Corrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := r.sealer.Seal(nil, seal.KindRowsText, seal.Name{}, make([]byte, seal.LargestPlain+1)); !errors.Is(err, errs.Invalid) {
		t.Errorf("beyond the largest chunk: %v", err)
	}
	if _, err := r.sealer.Seal(nil, 9, seal.Name{}, nil); !errors.Is(err, errs.Invalid) {
		t.Errorf("kind 9: %v", err)
	}
}

func TestSealersAndOpenersAreShared(t *testing.T) {
	r := newRing()
	var group sync.WaitGroup
	for g := range 16 {
		group.Go(func() {
			namer := seal.NewNamer(r.keys.Name())
			plain := bytes.Repeat([]byte{byte(g), 1, 2, byte(g)}, 5000+g)
			name := namer.Name(seal.KindRowsText, plain)
			for range 20 {
				frame, err := r.sealer.Seal(nil, seal.KindRowsText, name, plain)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := r.opener.Open(nil, frame, seal.KindRowsText, name)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	group.Wait()
}

func TestABlobOpensOnlyWithItsKeyPurposeAndPlace(t *testing.T) {
	key, aad := seal.NewKey(), []byte("here")
	sealed, err := seal.SealBlob(key, "test", aad, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := seal.OpenBlob(key, "test", aad, sealed); err != nil || string(got) != "plain" {
		t.Fatalf("%q, %v", got, err)
	}
	again, err := seal.SealBlob(key, "test", aad, []byte("plain"))
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed twice to the same bytes: %v", err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"another key":     func() ([]byte, error) { return seal.OpenBlob(seal.NewKey(), "test", aad, sealed) },
		"another purpose": func() ([]byte, error) { return seal.OpenBlob(key, "tes", aad, sealed) },
		"another place":   func() ([]byte, error) { return seal.OpenBlob(key, "test", []byte("there"), sealed) },
		"cut short":       func() ([]byte, error) { return seal.OpenBlob(key, "test", aad, sealed[:20]) },
		"empty":           func() ([]byte, error) { return seal.OpenBlob(key, "test", aad, nil) },
	} {
		if got, err := open(); !errors.Is(err, errs.Corrupt) || got != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		if _, err := seal.OpenBlob(key, "test", aad, bad); !errors.Is(err, errs.Corrupt) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if _, err := seal.SealBlob(key, "", aad, nil); !errors.Is(err, errs.Invalid) {
		t.Errorf("no purpose: %v", err)
	}
}

func TestNamingAllocatesNothing(t *testing.T) {
	r := newRing()
	plain := make([]byte, 1000)
	r.namer.Name(seal.KindRowsText, plain)
	if got := testing.AllocsPerRun(100, func() { r.namer.Name(seal.KindRowsText, plain) }); got != 0 {
		t.Errorf("%v allocations a name", got)
	}
}

func benchmarkPlain() []byte {
	g := rand.New(rand.NewPCG(1, 1))
	var b []byte
	for len(b) < 253<<10 {
		b = binary.AppendUvarint(append(b, "2026-03-04 shipped\t"...), g.Uint64N(1e6))
	}
	return b
}

func BenchmarkSeal(b *testing.B) {
	r, plain := newRing(), benchmarkPlain()
	name := r.namer.Name(seal.KindRowsText, plain)
	buf := make([]byte, 0, seal.MaxFrame(len(plain)))
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.sealer.Seal(buf, seal.KindRowsText, name, plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r, plain := newRing(), benchmarkPlain()
	name, frame := r.frame(b, seal.KindRowsText, plain)
	buf := make([]byte, 0, len(plain))
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.opener.Open(buf, frame, seal.KindRowsText, name); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkName(b *testing.B) {
	r, plain := newRing(), benchmarkPlain()
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		r.namer.Name(seal.KindRowsText, plain)
	}
}
