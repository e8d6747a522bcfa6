package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// OpenFunc reads n bytes of a stored pack from an offset, as blob.Store.Open
// does with a key. Whoever calls it closes what it returns.
type OpenFunc = func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// tailGuess is how much of a pack's end is read at once: the directory of a
// usual pack, so that two reads are enough. Larger directories cost a third.
const tailGuess = 128 << 10

// ReadDirectory reads and verifies what a pack of size bytes says about itself:
// magic, lengths that add up to exactly size, bounds of every frame, and the
// id. Give want whenever the pack's id is known (it is the last part of its
// key): without it the id is computed but compared with nothing, and damage
// inside the directory shows only in VerifyMAC.
//
// Memory is bounded by what is really read, at most 10 MiB, whatever the pack
// claims. Errors are errs.Corrupt, errs.Unsupported for a newer format, and
// those of open.
func ReadDirectory(ctx context.Context, open OpenFunc, size int64, want ...ID) (*Directory, error) {
	d, err := readDirectory(func(off, n int64) ([]byte, error) { return readRange(ctx, open, off, n) }, size)
	switch {
	case err != nil && len(want) > 0:
		return nil, fmt.Errorf("pack %s: %w", want[0].Short(), err)
	case err != nil:
		return nil, fmt.Errorf("pack: %w", err)
	case len(want) > 0 && d.ID != want[0]:
		return nil, fmt.Errorf("pack %s: directory is that of pack %s: %w", want[0].Short(), d.ID.Short(), errs.Corrupt)
	}
	return d, nil
}

func readDirectory(read func(off, n int64) ([]byte, error), size int64) (*Directory, error) {
	if size < smallest || size > largest {
		return nil, fmt.Errorf("%d bytes: not the size of any pack: %w", size, errs.Corrupt)
	}
	start := max(0, size-tailGuess)
	tail, err := read(start, size-start)
	if err != nil {
		return nil, err
	}
	t, err := parseTrailer(tail[len(tail)-trailerSize:], size)
	if err != nil {
		return nil, err
	}
	if t.offset < start {
		front, err := read(t.offset, start-t.offset)
		if err != nil {
			return nil, err
		}
		tail, start = append(front, tail...), t.offset
	}
	header := tail
	if start > 0 {
		if header, err = read(0, headerSize); err != nil {
			return nil, err
		}
	}
	return assemble(header[:headerSize], tail[t.offset-start:], t, size)
}

// assemble makes a Directory of the header, of directory and trailer (rest),
// and of the trailer as parsed.
func assemble(header, rest []byte, t *trailer, size int64) (*Directory, error) {
	domain, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	entries, end, err := parseEntries(rest[:t.length])
	if err != nil {
		return nil, err
	}
	if end != t.offset {
		return nil, fmt.Errorf("directory: frames end at %d, directory begins at %d: %w", end, t.offset, errs.Corrupt)
	}
	d := &Directory{ID: computeID(header, rest), Meta: t.meta, Size: size, Entries: entries, mac: t.mac}
	d.Domain = domain
	return d, nil
}

// readRange reads exactly n bytes; memory grows with what arrives.
func readRange(ctx context.Context, open OpenFunc, off, n int64) ([]byte, error) {
	r, err := open(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // nothing was written
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, n)); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
	}
	if int64(b.Len()) != n {
		return nil, fmt.Errorf("read %d bytes at %d: only %d there: %w", n, off, b.Len(), errs.Corrupt)
	}
	return b.Bytes(), nil
}

// ReadFrame appends one frame of a pack to dst, verified against its entry:
// errs.Corrupt if the bytes are not those whose hash the directory holds.
func ReadFrame(ctx context.Context, open OpenFunc, e Entry, dst []byte) ([]byte, error) {
	frame, err := readRange(ctx, open, e.Offset, int64(e.Length))
	if err != nil {
		return nil, fmt.Errorf("frame of chunk %s: %w", e.Name.Short(), err)
	}
	if err := e.check(frame); err != nil {
		return nil, err
	}
	return append(dst, frame...), nil
}

// check compares a frame with its entry.
func (e Entry) check(frame []byte) error {
	if seal.HashFrame(frame) != e.Hash {
		return fmt.Errorf("frame of chunk %s at %d: hash differs: %w", e.Name.Short(), e.Offset, errs.Corrupt)
	}
	h, err := seal.ParseHeader(frame)
	if err != nil {
		return fmt.Errorf("frame of chunk %s at %d: %w", e.Name.Short(), e.Offset, err)
	}
	if h.Name != e.Name || h.FrameLength() != int(e.Length) {
		return fmt.Errorf("frame of chunk %s at %d: header says chunk %s of %d bytes: %w",
			e.Name.Short(), e.Offset, h.Name.Short(), h.FrameLength(), errs.Corrupt)
	}
	return nil
}

// Scrub reads all frames of a pack in order, in one pass and without any key,
// and calls bad for each that is not what the directory d says (errs.Corrupt)
// or that the pack ends before. It stops at bad's first error and returns it;
// an error of reading ends it too. Memory is bounded by the largest frame.
func Scrub(ctx context.Context, open OpenFunc, d *Directory, bad func(Entry, error) error) error {
	return EachFrame(ctx, open, d, func(e Entry, _ []byte, damage error) error {
		if damage != nil {
			return bad(e, damage)
		}
		return nil
	})
}

// EachFrame is Scrub that gives every frame to fn, with what is wrong with it or
// nil. The bytes are valid until fn returns, and are not the chunk's when
// something is wrong.
func EachFrame(ctx context.Context, open OpenFunc, d *Directory, fn func(e Entry, frame []byte, damage error) error) error {
	if len(d.Entries) == 0 {
		return nil
	}
	last := d.Entries[len(d.Entries)-1]
	r, err := open(ctx, headerSize, last.Offset+int64(last.Length)-headerSize)
	if err != nil {
		return fmt.Errorf("pack %s: %w", d.ID.Short(), err)
	}
	defer func() { _ = r.Close() }() // nothing was written
	var b bytes.Buffer
	for _, e := range d.Entries {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b.Reset()
		if _, err := b.ReadFrom(io.LimitReader(r, int64(e.Length))); err != nil {
			return fmt.Errorf("pack %s: read frame at %d: %w", d.ID.Short(), e.Offset, err)
		}
		damage := e.check(b.Bytes())
		if b.Len() != int(e.Length) {
			damage = fmt.Errorf("frame of chunk %s at %d: pack ends before it does: %w", e.Name.Short(), e.Offset, errs.Corrupt)
		}
		if damage != nil {
			damage = fmt.Errorf("pack %s: %w", d.ID.Short(), damage)
		}
		if err := fn(e, b.Bytes(), damage); err != nil {
			return err
		}
	}
	return nil
}
