package export

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// valueWriter writes one value of n bytes in the binary format as COPY text. It
// reads all of it.
type valueWriter func(w io.Writer, r io.Reader, n int) error

// copyPiece is the size of the pieces in which long values are converted.
const copyPiece = 32 << 10

// longTypes are written as they come, whatever their length.
var longTypes = map[string]valueWriter{
	"text": escaped, "character varying": escaped, "character": escaped, "bpchar": escaped, "name": escaped, "json": escaped, "xml": escaped,
	"enum": escaped, "bytea": hexadecimal, "jsonb": jsonb,
}

// shortTypes have values of few bytes.
var shortTypes = map[string]func(b []byte) (string, bool){
	"boolean": func(b []byte) (string, bool) {
		return map[bool]string{true: "t", false: "f"}[len(b) == 1 && b[0] != 0], len(b) == 1
	},
	"smallint":                    integer(2),
	"integer":                     integer(4),
	"bigint":                      integer(8),
	"oid":                         func(b []byte) (string, bool) { s, ok := unsigned(b); return s, ok },
	"real":                        float(4, 32),
	"double precision":            float(8, 64),
	"numeric":                     numeric,
	"uuid":                        func(b []byte) (string, bool) { return hex.EncodeToString(b), len(b) == 16 },
	"date":                        date,
	"timestamp without time zone": func(b []byte) (string, bool) { return timestamp(b, "") },
	"timestamp with time zone":    func(b []byte) (string, bool) { return timestamp(b, "+00") },
	"time without time zone":      timeOfDay,
	"interval":                    interval,
}

// maxShort bounds a value of a short type: a numeric of 131,072 digits before the
// point and 16,383 behind it.
const maxShort = 128 << 10

// valueWriters gives what converts each column, or why one cannot be.
func valueWriters(columns []column) ([]valueWriter, error) {
	all := make([]valueWriter, len(columns))
	for i, c := range columns {
		if w, ok := longTypes[c.typ]; ok {
			all[i] = w
			continue
		}
		format, ok := shortTypes[c.typ]
		if !ok {
			typ := "type " + c.typ
			if c.typ == "" {
				typ = "a type that the archive does not tell"
			}
			return nil, fmt.Errorf("column %s of %s in the binary format %w", c.name.Display(), typ, errNoText)
		}
		all[i] = short(c.typ, format)
	}
	return all, nil
}

func short(typ string, format func([]byte) (string, bool)) valueWriter {
	return func(w io.Writer, r io.Reader, n int) error {
		if n > maxShort {
			return fmt.Errorf("a %s of %d bytes: %w", typ, n, errs.Corrupt)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		text, ok := format(b)
		if !ok {
			return fmt.Errorf("a %s of %d bytes makes no sense: %w", typ, n, errs.Corrupt)
		}
		_, err := io.WriteString(w, text)
		return err
	}
}

// pieces reads a value in pieces. A value cut off is io.ErrUnexpectedEOF.
func pieces(r io.Reader, n int, fn func([]byte) error) error {
	buf := make([]byte, min(n, copyPiece))
	for n > 0 {
		b := buf[:min(n, len(buf))]
		if _, err := io.ReadFull(r, b); err != nil {
			return io.ErrUnexpectedEOF
		}
		if err := fn(b); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// escaped writes text as COPY does.
func escaped(w io.Writer, r io.Reader, n int) error {
	var out []byte
	return pieces(r, n, func(b []byte) error {
		out = out[:0]
		for _, c := range b {
			if e := escapes[c]; e != 0 {
				out = append(out, '\\', e)
				continue
			}
			out = append(out, c)
		}
		_, err := w.Write(out)
		return err
	})
}

var escapes = [256]byte{'\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v'}

func hexadecimal(w io.Writer, r io.Reader, n int) error {
	if _, err := io.WriteString(w, `\\x`); err != nil {
		return err
	}
	out := make([]byte, 2*copyPiece)
	return pieces(r, n, func(b []byte) error {
		_, err := w.Write(out[:hex.Encode(out, b)])
		return err
	})
}

// jsonb has a version before its text.
func jsonb(w io.Writer, r io.Reader, n int) error {
	var version [1]byte
	if _, err := io.ReadFull(r, version[:]); err != nil || n < 1 {
		return io.ErrUnexpectedEOF
	}
	if version[0] != 1 {
		return fmt.Errorf("a jsonb of version %d: %w", version[0], errNoText)
	}
	return escaped(w, r, n-1)
}

// signed reads an integer of 2, 4 or 8 bytes.
func signed(b []byte) int64 {
	switch len(b) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b)))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	}
	return int64(binary.BigEndian.Uint64(b))
}

func integer(size int) func([]byte) (string, bool) {
	return func(b []byte) (string, bool) {
		if len(b) != size {
			return "", false
		}
		return strconv.FormatInt(signed(b), 10), true
	}
}

func unsigned(b []byte) (string, bool) {
	if len(b) != 4 {
		return "", false
	}
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32(b)), 10), true
}

// float writes the shortest text that reads back as the same number.
func float(size, bits int) func([]byte) (string, bool) {
	return func(b []byte) (string, bool) {
		if len(b) != size {
			return "", false
		}
		f := math.Float64frombits(uint64(signed(b)))
		if bits == 32 {
			f = float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
		}
		switch {
		case math.IsInf(f, 1):
			return "Infinity", true
		case math.IsInf(f, -1):
			return "-Infinity", true
		}
		return strconv.FormatFloat(f, 'g', -1, bits), true
	}
}

// numeric has digits of base 10,000: their number, the weight of the first, a
// sign, and how many decimals are shown.
func numeric(b []byte) (string, bool) {
	if len(b) < 8 {
		return "", false
	}
	digits, weight, sign, scale := int(binary.BigEndian.Uint16(b)), int(signed(b[2:4])), binary.BigEndian.Uint16(b[4:]), int(binary.BigEndian.Uint16(b[6:]))
	switch sign {
	case 0xc000:
		return "NaN", true
	case 0xd000:
		return "Infinity", true
	case 0xf000:
		return "-Infinity", true
	}
	if len(b) != 8+2*digits || sign != 0 && sign != 0x4000 || scale > 1<<14 {
		return "", false
	}
	digit := func(power int) int { // of 10,000
		if i := weight - power; i >= 0 && i < digits {
			return int(binary.BigEndian.Uint16(b[8+2*i:]))
		}
		return 0
	}
	var s strings.Builder
	if sign == 0x4000 {
		s.WriteByte('-')
	}
	s.WriteString(strconv.Itoa(digit(max(weight, 0))))
	for p := max(weight, 0) - 1; p >= 0; p-- {
		fmt.Fprintf(&s, "%04d", digit(p))
	}
	if scale == 0 {
		return s.String(), true
	}
	var decimals strings.Builder
	for p := -1; decimals.Len() < scale; p-- {
		fmt.Fprintf(&decimals, "%04d", digit(p))
	}
	return s.String() + "." + decimals.String()[:scale], true
}
