package pack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Writer fills a pack in a spool file. One goroutine at a time may use it.
//
// The steps, and what a crash leaves:
//
//  1. Create makes a spool file; Add appends frames to it. A crash leaves a
//     spool file that nothing refers to; CleanSpool removes it.
//  2. Finish appends directory and trailer and reads them back. The same.
//  3. The caller puts the Sealed pack into the store, which makes it durable,
//     and then calls Remove. A crash between the two leaves the spool file.
//
// The spool file is never synced: it is worth nothing after a crash.
type Writer struct {
	file *os.File
	dir  Directory
	size int64
	// err is the first failure; after it the file's content is unknown and the
	// Writer can only be aborted.
	err error
	// closed is set by Finish and Abort.
	closed bool
}

// Create begins a pack in a new spool file in the folder spoolDir, which must
// exist. The caller ends it with Finish or Abort; Abort after Finish does
// nothing, so it can be deferred.
func Create(spoolDir string, m Meta) (*Writer, error) {
	f, err := os.CreateTemp(spoolDir, spoolPrefix+"*"+spoolSuffix)
	if err != nil {
		return nil, fmt.Errorf("create pack: %w", errs.OfFile(err))
	}
	m.Created = m.Created.Truncate(time.Microsecond).UTC()
	w := &Writer{file: f, dir: Directory{Meta: m}}
	if err := w.write(appendHeader(nil, m.Domain)); err != nil {
		return nil, errors.Join(fmt.Errorf("create pack: %w", err), w.Abort())
	}
	return w, nil
}

// Add appends a frame. The hash is what the sender says of the frame; it is
// computed anew, and a difference, like a frame whose header is not of its
// length, is errs.Corrupt and leaves the pack as it was. A pack that is Full by
// count is errs.Exhausted; so is a full disk, after which only Abort is left.
func (w *Writer) Add(frame []byte, hash seal.FrameHash) error {
	if w.closed {
		panic("pack: frame after the end")
	}
	if w.err != nil {
		return w.err
	}
	h, err := seal.ParseHeader(frame)
	if err != nil {
		return fmt.Errorf("add to pack: %w", err)
	}
	if h.FrameLength() != len(frame) {
		return fmt.Errorf("add chunk %s to pack: frame has %d bytes, its header says %d: %w",
			h.Name.Short(), len(frame), h.FrameLength(), errs.Corrupt)
	}
	if got := seal.HashFrame(frame); got != hash {
		return fmt.Errorf("add chunk %s to pack: frame was damaged on its way: hash differs: %w", h.Name.Short(), errs.Corrupt)
	}
	if w.size >= MaxSize || w.Count() >= MaxCount {
		return fmt.Errorf("add chunk %s to pack: pack is full: %w", h.Name.Short(), errs.Exhausted)
	}
	offset := w.size
	if err := w.write(frame); err != nil {
		return fmt.Errorf("add chunk %s to pack: %w", h.Name.Short(), err)
	}
	w.dir.Entries = append(w.dir.Entries, Entry{Name: h.Name, Hash: hash, Offset: offset, Length: uint32(len(frame))})
	return nil
}

// Size is the number of bytes so far, without directory and trailer.
func (w *Writer) Size() int64 { return w.size }

// Count is the number of frames so far.
func (w *Writer) Count() int { return len(w.dir.Entries) }

// Full tells whether the pack is to be finished now: it has reached MaxSize or
// MaxCount, and Add would refuse more.
func (w *Writer) Full() bool { return w.size >= MaxSize || w.Count() >= MaxCount }

// Finish writes directory and trailer, authenticated under the domain's pack
// key, reads them back from the spool file and compares. After an error the
// Writer can only be aborted. A pack without frames is errs.Invalid.
func (w *Writer) Finish(packKey seal.Key) (*Sealed, error) {
	if w.closed {
		panic("pack: finish after the end")
	}
	if w.err != nil {
		return nil, w.err
	}
	if w.Count() == 0 {
		return nil, fmt.Errorf("finish pack: no frames: %w", errs.Invalid)
	}
	end, id := w.dir.encode(signWith(packKey))
	if err := w.write(end); err != nil {
		return nil, fmt.Errorf("finish pack: %w", err)
	}
	w.dir.ID, w.dir.Size = id, w.size
	if w.err = w.selfCheck(packKey); w.err != nil {
		return nil, fmt.Errorf("finish pack: check what was written: %w", w.err)
	}
	w.closed = true
	path := w.file.Name()
	if err := w.file.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("finish pack: %w", errs.OfFile(err)), os.Remove(path))
	}
	return &Sealed{path: path, dir: &w.dir}, nil
}

// selfCheck decodes the directory from the file: what is about to become the
// only copy of somebody's rows must be readable by a reader, not only by us.
func (w *Writer) selfCheck(packKey seal.Key) error {
	info, err := w.file.Stat()
	if err != nil {
		return errs.OfFile(err)
	}
	got, err := readDirectory(func(off, n int64) ([]byte, error) {
		b := make([]byte, n)
		_, err := w.file.ReadAt(b, off)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("spool file %s ends early: %w", w.file.Name(), errs.Corrupt)
		}
		return b, errs.OfFile(err)
	}, info.Size())
	if err != nil {
		return err
	}
	if got.ID != w.dir.ID || !slices.Equal(got.Entries, w.dir.Entries) || got.Meta != w.dir.Meta {
		return fmt.Errorf("spool file %s: directory differs from what was added: %w", w.file.Name(), errs.Corrupt)
	}
	w.dir.mac = got.mac
	return VerifyMAC(got, packKey)
}

// Abort ends the pack and removes its spool file. After Finish or Abort it does
// nothing.
func (w *Writer) Abort() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if err := errors.Join(w.file.Close(), os.Remove(w.file.Name())); err != nil {
		return fmt.Errorf("abort pack: %w", errs.OfFile(err))
	}
	return nil
}

func (w *Writer) write(b []byte) error {
	n, err := w.file.Write(b)
	w.size += int64(n)
	if err != nil {
		w.err = errs.OfFile(err)
	}
	return w.err
}
