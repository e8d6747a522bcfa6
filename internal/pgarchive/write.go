package pgarchive

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// File is where a table of contents is written: from its beginning, and at the
// end once more where the number of entries stands.
type File interface {
	io.Writer
	io.WriterAt
}

// Writer writes toc.dat, the table of contents of an archive in the directory
// format. Entries are written as they come: whoever has more than fit into memory
// makes them one by one. After an error the file is worth nothing.
type Writer struct {
	file    File
	w       *bufio.Writer
	version int
	countAt int64
	written int64
	entries int
	seen    map[ID]bool
}

// The compressions of data files, as the head names them.
const (
	oldGzip = -1 // zlib's standard level; until 1.14
	byGzip  = 1
)

// NewWriter begins a table of contents with the version, names and time of head.
// It says of the data files that they are compressed by gzip.
func NewWriter(f File, head *Archive) (*Writer, error) {
	w := &Writer{file: f, w: bufio.NewWriterSize(f, 64<<10), version: int(head.Version.Major)<<8 | int(head.Version.Minor), seen: map[ID]bool{}}
	if w.version < oldest || w.version > newest {
		return nil, fmt.Errorf("write table of contents: format version %d.%d: %w", head.Version.Major, head.Version.Minor, errs.Unsupported)
	}
	b := append([]byte("PGDMP"), head.Version.Major, head.Version.Minor, head.Version.Revision, 4, 8, formatDirectory)
	if w.version >= byteMethod {
		b = append(b, byGzip)
	} else {
		b = appendInt(b, oldGzip)
	}
	t := head.Created
	for _, n := range []int{t.Second(), t.Minute(), t.Hour(), t.Day(), int(t.Month()) - 1, max(0, t.Year()-1900), 0} {
		b = appendInt(b, n)
	}
	for _, s := range []string{string(head.Database), string(head.Server), string(head.Tool)} {
		b = appendText(b, s)
	}
	w.countAt = int64(len(b))
	return w, w.put(appendInt(b, 0))
}

// Entry writes one entry. Its number must be new.
func (w *Writer) Entry(e *Entry) error {
	if e.ID < 1 || w.seen[e.ID] || w.entries >= MaxEntries || e.Section < SectionNone || e.Section > SectionPost {
		return fmt.Errorf("write table of contents: entry %d (%s) in section %d: %w", e.ID, e, e.Section, errs.Invalid)
	}
	w.seen[e.ID] = true
	w.entries++
	b := appendInt(nil, int(e.ID))
	b = appendInt(b, map[bool]int{true: 1}[e.HasData])
	b = appendText(b, strconv.FormatUint(uint64(e.TableOID), 10))
	b = appendText(b, strconv.FormatUint(uint64(e.OID), 10))
	b = e.append(b, string(e.Tag), blankTag)
	b = appendText(b, e.Desc)
	b = appendInt(b, int(e.Section))
	b = e.append(b, e.Defn, blankDefn)
	b = e.append(b, e.Drop, blankDrop)
	b = e.append(b, e.Copy, blankCopy)
	b = e.append(b, string(e.Namespace), blankNamespace)
	b = e.append(b, string(e.Tablespace), blankTablespace)
	b = e.append(b, string(e.TableAM), blankTableAM)
	if w.version >= withKind {
		b = appendInt(b, int(e.RelKind))
	}
	b = e.append(b, string(e.Owner), blankOwner)
	b = appendText(b, "false") // no OIDs in rows
	for _, d := range e.Deps {
		b = appendText(b, strconv.Itoa(int(d)))
	}
	b = appendInt(b, -1)
	return w.put(appendText(b, e.File))
}

// Close writes the number of entries and what is buffered. It does not close the
// file, nor make it durable.
func (w *Writer) Close() error {
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write table of contents: %w", err)
	}
	if _, err := w.file.WriteAt(appendInt(nil, w.entries), w.countAt); err != nil {
		return fmt.Errorf("write table of contents: %w", err)
	}
	return nil
}

func (w *Writer) put(b []byte) error {
	if w.written += int64(len(b)); w.written > MaxBytes {
		return fmt.Errorf("write table of contents: more than %d bytes: %w", int64(MaxBytes), errs.Exhausted)
	}
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write table of contents: %w", err)
	}
	return nil
}

// append writes a text that may be missing.
func (e *Entry) append(b []byte, s string, bit blanks) []byte {
	if s == "" && e.blank&bit == 0 {
		return appendInt(b, -1)
	}
	return appendText(b, s)
}

// appendInt writes a sign and four bytes, little endian.
func appendInt(b []byte, n int) []byte {
	sign := byte(0)
	if n < 0 {
		sign, n = 1, -n
	}
	if n > math.MaxInt32 {
		panic("pgarchive: number beyond 31 bits")
	}
	return binary.LittleEndian.AppendUint32(append(b, sign), uint32(n))
}

func appendText(b []byte, s string) []byte {
	return append(appendInt(b, len(s)), s...)
}
