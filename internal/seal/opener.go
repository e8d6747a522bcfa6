package seal

import (
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// window is the zstd window of writers, in bytes: the largest chunk with the
// default parameters. Readers accept this much, or the largest chunk if greater.
const window = 1 << 20

// Opener opens the frames of a domain. It is safe for concurrent use: as many
// goroutines open at once as the program has processors, the others wait.
type Opener struct {
	domain   DomainID
	nameKey  Key
	refsKey  Key
	sealKeys map[uint32]Key
	maxPlain int
	// workers holds one entry for each processor; a nil entry was never needed.
	workers chan *openWorker
}

// openWorker is what one Open call needs.
type openWorker struct {
	namer   *Namer
	decoder *zstd.Decoder
	scratch []byte
}

// NewOpener makes an Opener with DomainKeys.Name(), DomainKeys.Refs() and the
// seal keys of those epochs whose chunks it may open. No frame with more than
// maxPlain bytes of plaintext is opened: give the domain's largest chunk.
// maxPlain is capped at LargestPlain.
func NewOpener(d DomainID, nameKey, refsKey Key, sealKeys map[uint32]Key, maxPlain int) *Opener {
	o := &Opener{domain: d, nameKey: nameKey, refsKey: refsKey, sealKeys: maps.Clone(sealKeys),
		maxPlain: min(max(maxPlain, 0), LargestPlain), workers: make(chan *openWorker, runtime.GOMAXPROCS(0))}
	for range cap(o.workers) {
		o.workers <- nil
	}
	return o
}

// Open verifies a whole frame and appends its plaintext to dst. Nothing is
// given out before the tag has verified, the length is right and the name,
// recomputed from the plaintext, is the one asked for.
//
// Errors are errs.Corrupt when the frame is not what was sealed under that
// kind and name, errs.Denied when the Opener has no key for the frame's epoch,
// errs.Unsupported for a newer format.
func (o *Opener) Open(dst []byte, frame []byte, kind Kind, name Name) ([]byte, error) {
	out, err := o.open(dst, frame, kind, name)
	if err != nil {
		return nil, fmt.Errorf("open chunk %s: %w", name.Short(), err)
	}
	return out, nil
}

func (o *Opener) open(dst []byte, frame []byte, kind Kind, name Name) ([]byte, error) {
	h, err := ParseHeader(frame)
	if err != nil {
		return nil, err
	}
	switch {
	case h.FrameLength() != len(frame):
		return nil, fmt.Errorf("frame has %d bytes, its header says %d: %w", len(frame), h.FrameLength(), errs.Corrupt)
	case len(frame) > MaxFrame(o.maxPlain):
		return nil, fmt.Errorf("frame of %d bytes is larger than any of this domain: %w", len(frame), errs.Corrupt)
	case h.Kind != kind || h.Name != name:
		return nil, fmt.Errorf("frame is of chunk %s, kind %d instead of %d: %w", h.Name.Short(), h.Kind, kind, errs.Corrupt)
	}
	parent := o.refsKey
	if kind != KindList {
		var ok bool
		if parent, ok = o.sealKeys[h.Epoch]; !ok {
			return nil, fmt.Errorf("no key for epoch %d: %w", h.Epoch, errs.Denied)
		}
	}
	w := <-o.workers
	defer func() { o.workers <- w }()
	if w == nil {
		if w, err = o.newWorker(); err != nil {
			return nil, err
		}
	}
	aad := associated(o.domain, frame[:HeaderSize])
	w.scratch, err = newAEAD(frameKey(parent, kind, name)).Open(w.scratch[:0], nil, frame[HeaderSize:], aad[:])
	if err != nil {
		return nil, fmt.Errorf("tag does not verify: %w", errs.Corrupt)
	}
	return w.unpack(dst, h, o.maxPlain)
}

// String never shows the keys.
func (o *Opener) String() string { return "opener of domain " + o.domain.String() }

// Format never shows the keys, whatever the verb.
func (o *Opener) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(o.String())) }

func (o *Opener) newWorker() (*openWorker, error) {
	limit := uint64(max(o.maxPlain, window))
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), // a worker has one caller at a time
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(limit),
		zstd.WithDecoderMaxWindow(limit),
		zstd.WithDecodeAllCapLimit(true)) // output ends where the declared length does
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &openWorker{namer: NewNamer(o.nameKey), decoder: dec}, nil
}

// unpack appends the plaintext in w.scratch to dst once it has the declared
// length and the name that the header says. The space for it is bounded by
// maxPlain, whatever the frame declares.
func (w *openWorker) unpack(dst []byte, h Header, maxPlain int) ([]byte, error) {
	declared := binary.BigEndian.Uint32(w.scratch)
	if int64(declared) > int64(maxPlain) {
		return nil, fmt.Errorf("declares %d bytes of at most %d: %w", declared, maxPlain, errs.Corrupt)
	}
	n, body := int(declared), w.scratch[lengthSize:]
	dst = slices.Grow(dst, n)
	end := len(dst) + n
	// A slice of exactly the declared capacity: the decoder cannot go beyond.
	if err := w.expand(dst[len(dst):len(dst):end], body, h); err != nil {
		clear(dst[len(dst):end]) // nor is anything left in the caller's buffer
		return nil, err
	}
	return dst[:end], nil
}

// expand fills out, whose capacity is the declared length, from body.
func (w *openWorker) expand(out, body []byte, h Header) error {
	n := cap(out)
	var err error
	switch h.Compression {
	case Zstd:
		if out, err = w.decoder.DecodeAll(body, out); err != nil {
			return fmt.Errorf("decompress: %w: %w", errs.Corrupt, err)
		}
	default:
		if out, err = stored(body, out, n); err != nil {
			return err
		}
	}
	if len(out) != n {
		return fmt.Errorf("has %d bytes, declares %d: %w", len(out), n, errs.Corrupt)
	}
	if w.namer.Name(h.Kind, out) != h.Name {
		return fmt.Errorf("plaintext has another name: %w", errs.Corrupt)
	}
	return nil
}

// stored gives the first n bytes of body; what follows is padding and must be
// zero, so that one plaintext has no more than one body of a length.
func stored(body, out []byte, n int) ([]byte, error) {
	if len(body) < n {
		return nil, fmt.Errorf("has %d bytes, declares %d: %w", len(body), n, errs.Corrupt)
	}
	for _, b := range body[n:] {
		if b != 0 {
			return nil, fmt.Errorf("padding is not zero: %w", errs.Corrupt)
		}
	}
	return append(out, body[:n]...), nil
}
