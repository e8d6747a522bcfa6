package pgarchive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// What is read at most. The largest table of contents seen (2,766 entries of
// PostgreSQL's own regression database) has 1.3 MB; these leave room for a
// million tables and stop an archive that claims the impossible.
const (
	// MaxEntries is the number of entries.
	MaxEntries = 16 << 20
	// MaxString is the length of one text: a function or view as large as a
	// statement may be.
	MaxString = 256 << 20
	// MaxBytes is the length of the whole table of contents.
	MaxBytes = 2 << 30
)

// Versions that can be read: of pg_dump 13 (1.14) to 18 (1.16).
const (
	oldest     = 1<<8 | 14
	newest     = 1<<8 | 16
	byteMethod = 1<<8 | 15 // compression is a byte
	withKind   = 1<<8 | 16 // entries have a relkind
)

// The formats. A directory says in its table of contents that it is a tar
// archive: the two have the same one.
const (
	formatCustom    = 1
	formatDirectory = 3
)

// Read reads an archive in the custom format up to the end of its table of
// contents; the rest of r is not read, except for up to 64 KiB of read-ahead.
// The error's kind is errs.Unsupported for a version or format that this program
// does not know, and errs.Corrupt for anything that is not a whole table of
// contents; an error of r itself comes back as it is.
func Read(r io.Reader) (*Archive, error) { return read(r, formatCustom) }

// ReadDirectory reads the file toc.dat of an archive in the directory format, as
// Read does.
func ReadDirectory(r io.Reader) (*Archive, error) { return read(r, formatDirectory) }

func read(r io.Reader, format byte) (*Archive, error) {
	d := &decoder{r: bufio.NewReaderSize(r, 64<<10), format: format}
	a, err := d.archive()
	if err != nil {
		return nil, fmt.Errorf("read schema archive: %w", err)
	}
	if err := a.Link(); err != nil {
		return nil, fmt.Errorf("read schema archive: %w", err)
	}
	return a, nil
}

// decoder reads the archive's primitives. After the first error it gives zeros.
type decoder struct {
	r       *bufio.Reader
	format  byte
	intSize int
	offSize int
	version int
	left    int64
	err     error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) corrupt(format string, args ...any) {
	d.fail(fmt.Errorf(format+": %w", append(args, errs.Corrupt)...))
}

func (d *decoder) ended(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.corrupt("the archive ends too early")
		return
	}
	d.fail(err)
}

// take counts n bytes against the bound of the whole.
func (d *decoder) take(n int64) bool {
	if d.err == nil && n > d.left {
		d.corrupt("table of contents of more than %d bytes", int64(MaxBytes))
	}
	d.left -= n
	return d.err == nil
}

func (d *decoder) byte() byte {
	if !d.take(1) {
		return 0
	}
	b, err := d.r.ReadByte()
	if err != nil {
		d.ended(err)
	}
	return b
}

// int reads a sign and intSize bytes, little endian.
func (d *decoder) int() int64 {
	sign := d.byte()
	var v uint64
	for i := range d.intSize {
		v |= uint64(d.byte()) << (8 * i)
	}
	if sign > 1 || v > 1<<62 {
		d.corrupt("a number of sign %d", sign)
		return 0
	}
	if sign == 1 {
		return -int64(v)
	}
	return int64(v)
}

// text reads a string; ok is false for NULL.
func (d *decoder) text() (s string, ok bool) {
	n := d.int()
	if d.err != nil || n < 0 {
		return "", false
	}
	if n > MaxString {
		d.corrupt("a text of %d bytes", n)
		return "", false
	}
	if !d.take(n) {
		return "", false
	}
	b, err := readN(d.r, int(n))
	if err != nil {
		d.ended(err)
		return "", false
	}
	return string(b), true
}

// readN reads n bytes without believing that they are there: memory grows with
// what arrives.
func readN(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, 2*cap(b)))
			copy(grown, b)
			b = grown
		}
		k, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (d *decoder) string() string { s, _ := d.text(); return s }
func (d *decoder) name() pg.Name  { return pg.Name(d.string()) }

// of reads a text of an entry that may be missing, and notes one that is there
// though empty.
func (d *decoder) of(e *Entry, bit blanks) string {
	s, ok := d.text()
	if ok && s == "" {
		e.blank |= bit
	}
	return s
}

// oid reads an OID, which is written as decimal text.
func (d *decoder) oid() uint32 {
	s := d.string()
	if s == "" || d.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		d.corrupt("an OID %.20q", s)
	}
	return uint32(n)
}

func (d *decoder) archive() (*Archive, error) {
	d.left = MaxBytes
	a := &Archive{}
	if err := d.head(a); err != nil {
		return nil, err
	}
	n := d.int()
	if d.err == nil && (n < 0 || n > MaxEntries) {
		d.corrupt("%d entries", n)
	}
	for i := int64(0); i < n && d.err == nil; i++ {
		e := d.entry()
		if d.err == nil {
			a.Entries = append(a.Entries, e)
		}
	}
	return a, d.err
}

// head reads everything before the entries.
func (d *decoder) head(a *Archive) error {
	var magic [5]byte
	for i := range magic {
		magic[i] = d.byte()
	}
	if d.err == nil && string(magic[:]) != "PGDMP" {
		d.corrupt("it does not begin like a pg_dump archive")
	}
	a.Version = Version{d.byte(), d.byte(), d.byte()}
	d.version = int(a.Version.Major)<<8 | int(a.Version.Minor)
	if d.err == nil && (d.version < oldest || d.version > newest) {
		return fmt.Errorf("format version %d.%d; this version reads 1.14 to 1.16 (pg_dump 13 to 18), use a newer one: %w",
			a.Version.Major, a.Version.Minor, errs.Unsupported)
	}
	d.intSize, d.offSize = int(d.byte()), int(d.byte())
	if d.err == nil && (d.intSize < 1 || d.intSize > 8 || d.offSize > 8) {
		d.corrupt("integers of %d and offsets of %d bytes", d.intSize, d.offSize)
	}
	if format := d.byte(); d.err == nil && format != d.format {
		return fmt.Errorf("archive format %d, expected %d: %w", format, d.format, errs.Unsupported)
	}
	if d.version >= byteMethod {
		a.Compression = int(d.byte())
	} else {
		a.Compression = int(d.int())
	}
	var t [7]int // second, minute, hour, day, month, year, daylight saving
	for i := range t {
		t[i] = int(int32(d.int()))
	}
	a.Created = created(t)
	a.Database, a.Server, a.Tool = d.name(), d.name(), d.name()
	return d.err
}

// created gives the time, or none for one that no clock shows.
func created(t [7]int) time.Time {
	for i, most := range []int{60, 59, 23, 31, 11, 8000} {
		if t[i] < 0 || t[i] > most {
			return time.Time{}
		}
	}
	return time.Date(t[5]+1900, time.Month(t[4]+1), t[3], t[2], t[1], t[0], 0, time.UTC)
}

// entry reads one entry.
func (d *decoder) entry() Entry {
	var e Entry
	id := d.int()
	if d.err == nil && (id < 1 || id > 1<<31-1) {
		d.corrupt("an entry numbered %d", id)
	}
	e.ID = ID(id)
	e.HasData = d.int() != 0
	e.TableOID, e.OID = d.oid(), d.oid()
	e.Tag, e.Desc = pg.Name(d.of(&e, blankTag)), d.string()
	section := d.int()
	if d.err == nil && (section < int64(SectionNone) || section > int64(SectionPost)) {
		d.corrupt("entry %d in section %d", id, section)
	}
	e.Section = Section(section)
	e.Defn, e.Drop, e.Copy = d.of(&e, blankDefn), d.of(&e, blankDrop), d.of(&e, blankCopy)
	e.Namespace, e.Tablespace, e.TableAM = pg.Name(d.of(&e, blankNamespace)), pg.Name(d.of(&e, blankTablespace)), pg.Name(d.of(&e, blankTableAM))
	if d.version >= withKind {
		e.RelKind = byte(d.int())
	}
	e.Owner = pg.Name(d.of(&e, blankOwner))
	if d.string() == "true" {
		d.fail(fmt.Errorf("entry %d is a table with OIDs: %w", id, errs.Unsupported))
	}
	d.deps(&e)
	if d.format == formatDirectory {
		e.File = d.string()
		return e
	}
	_ = d.byte() // state and place of the data, of which there is none
	for range d.offSize {
		_ = d.byte()
	}
	return e
}

// deps reads numbers as texts up to a NULL.
func (d *decoder) deps(e *Entry) {
	for d.err == nil {
		s, ok := d.text()
		if !ok {
			return
		}
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 0 {
			d.corrupt("entry %d depends on %.20q", e.ID, s)
			return
		}
		e.Deps = append(e.Deps, ID(n))
	}
}

// With gives an archive with the same head and other entries, for example some
// of them, or rewritten ones. It keeps entries. An error is Corrupt: a number
// is there twice.
func (a *Archive) With(entries []Entry) (*Archive, error) {
	b := *a
	b.Entries = entries
	if err := b.Link(); err != nil {
		return nil, err
	}
	return &b, nil
}

// Link indexes the entries by number and finds the section of those that have
// none. Whoever makes an Archive or changes its entries calls it; Read has. Two
// entries of one number are errs.Corrupt.
func (a *Archive) Link() error {
	a.byID = make(map[ID]*Entry, len(a.Entries))
	for i := range a.Entries {
		e := &a.Entries[i]
		if a.byID[e.ID] != nil {
			return fmt.Errorf("entry %d is there twice: %w", e.ID, errs.Corrupt)
		}
		a.byID[e.ID] = e
	}
	a.post = map[ID]bool{}
	// What is about something of post-data goes there too, at any remove: the
	// privileges of a column depend on those of its table. An entry stands after
	// what it is about, so one look in order is enough; two, for an order that is not kept.
	for range 2 {
		for i := range a.Entries {
			e := &a.Entries[i]
			if e.Section != SectionNone || a.post[e.ID] {
				continue
			}
			for _, id := range e.Deps {
				if x := a.byID[id]; x != nil && (x.Section == SectionPost || a.post[id]) {
					a.post[e.ID] = true
					break
				}
			}
		}
	}
	return nil
}
