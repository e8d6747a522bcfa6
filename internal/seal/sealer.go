package seal

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// minCompress is the length in bytes below which compression is not tried: a
// zstd frame's own cost eats what it could save.
const minCompress = 64

// Sealer makes the frames of a domain in one epoch. It is safe for concurrent
// use: as many goroutines compress at once as the program has processors, the
// others wait, so that memory does not grow with the number of callers.
type Sealer struct {
	domain  DomainID
	epoch   uint32
	sealKey Key
	refsKey Key
	// workers holds one entry for each processor. A nil entry is a worker that
	// was never needed and has no encoder yet.
	workers chan *sealWorker
}

// sealWorker is what one Seal call needs: an encoder and its output.
type sealWorker struct {
	encoder *zstd.Encoder
	scratch []byte
}

// NewSealer makes a Sealer with the keys DomainKeys.Seal(epoch) and
// DomainKeys.Refs().
func NewSealer(d DomainID, epoch uint32, sealKey, refsKey Key) *Sealer {
	s := &Sealer{domain: d, epoch: epoch, sealKey: sealKey, refsKey: refsKey,
		workers: make(chan *sealWorker, runtime.GOMAXPROCS(0))}
	for range cap(s.workers) {
		s.workers <- nil
	}
	return s
}

// Seal appends to dst the frame of a chunk whose name the caller has computed,
// and returns the extended slice. Plain must not overlap dst's free space. The
// chunk is stored as it is when compression does not pay.
func (s *Sealer) Seal(dst []byte, kind Kind, name Name, plain []byte) ([]byte, error) {
	if len(plain) > LargestPlain {
		return nil, fmt.Errorf("seal chunk %s: %d bytes exceed %d: %w", name.Short(), len(plain), LargestPlain, errs.Invalid)
	}
	if kind < KindRowsText || kind > KindWAL {
		return nil, fmt.Errorf("seal chunk %s: kind %d: %w", name.Short(), kind, errs.Invalid)
	}
	h := Header{Kind: kind, Epoch: s.epoch, Name: name}
	parent := s.sealKey
	if kind == KindList {
		h.Epoch, parent = 0, s.refsKey
	}
	w := <-s.workers
	defer func() { s.workers <- w }()
	if w == nil {
		var err error
		if w, err = newSealWorker(); err != nil {
			return nil, fmt.Errorf("seal chunk %s: %w", name.Short(), err)
		}
	}
	h.Compression = w.pack(plain)
	h.SealedLength = uint32(overhead + len(w.scratch))
	dst = h.append(slices.Grow(dst, h.FrameLength()))
	aad := associated(s.domain, dst[len(dst)-HeaderSize:])
	return newAEAD(frameKey(parent, kind, name)).Seal(dst, nil, w.scratch, aad[:]), nil
}

// String never shows the keys.
func (s *Sealer) String() string { return "sealer of domain " + s.domain.String() }

// Format never shows the keys, whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

func newSealWorker() (*sealWorker, error) {
	enc, err := zstd.NewWriter(nil,
		// On rows the higher levels gain nothing for their time; see docs/adr/0010.
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		// Without it blocks that have no repeats are stored as they are, though
		// bytea comes as hexadecimal digits, of which each has four bits in it.
		zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderConcurrency(1), // a worker has one caller at a time
		zstd.WithEncoderCRC(false),     // the tag and the name are stronger
		zstd.WithWindowSize(window),
		zstd.WithSingleSegment(true)) // a reader need not keep a window of its own
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return &sealWorker{encoder: enc}, nil
}

// pack leaves in w.scratch what is to be sealed: plain length ‖ body.
func (w *sealWorker) pack(plain []byte) Compression {
	w.scratch = binary.BigEndian.AppendUint32(w.scratch[:0], uint32(len(plain)))
	if len(plain) >= minCompress {
		w.scratch = w.encoder.EncodeAll(plain, w.scratch)
		// It pays when at least a sixty-fourth is saved: less is not worth
		// decompressing for.
		if len(w.scratch)-lengthSize <= len(plain)-len(plain)/64 {
			return Zstd
		}
		w.scratch = w.scratch[:lengthSize]
	}
	w.scratch = append(w.scratch, plain...)
	return None
}

// associated gives the associated data of a frame: domain id ‖ clear header.
func associated(d DomainID, header []byte) [len(DomainID{}) + HeaderSize]byte {
	var a [len(DomainID{}) + HeaderSize]byte
	copy(a[:], d[:])
	copy(a[len(d):], header)
	return a
}
