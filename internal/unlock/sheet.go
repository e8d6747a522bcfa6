package unlock

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// A recovery sheet is a key file for paper: eight numbered rows, each of two words
// for four bytes and a third that checks the row. A word is 16 bits, consonants
// and vowels in turn, so that it can be read aloud and typed.
//
//	TUSKVAULT-SHEET-1
//	 1  lusab babad  gutih
//	 …
const (
	sheetMark = "TUSKVAULT-SHEET-1"
	sheetRows = 8
	rowBytes  = seal.KeySize / sheetRows

	consonants = "bdfghjklmnprstvz" // 4 bits each
	vowels     = "aiou"             // 2 bits each
)

// IsSheet tells whether a text claims to be a recovery sheet.
func IsSheet(text string) bool { return strings.Contains(strings.ToUpper(text), sheetMark) }

// Sheet gives the lines of a key file for paper, the secret itself.
func Sheet(k *seal.KeyFile) []string {
	_, _, _, root := k.Derive().Parts()
	lines := []string{sheetMark}
	for row := range sheetRows {
		b := root[row*rowBytes:][:rowBytes]
		lines = append(lines, fmt.Sprintf("%2d  %s %s  %s", row+1, word(binary.BigEndian.Uint16(b)), word(binary.BigEndian.Uint16(b[2:])), word(rowCheck(row, b))))
	}
	return lines
}

// rowCheck is the check of a row. It depends on the row's number, so that two rows
// in each other's place are found.
func rowCheck(row int, b []byte) uint16 {
	sum := sha256.Sum256(append([]byte{'r', 'o', 'w', byte(row)}, b...))
	return binary.BigEndian.Uint16(sum[:])
}

// ParseSheet reads a sheet as somebody has typed it: upper or lower case, white
// space and lines of other text do not matter. A row that is missing, twice there or
// mistyped is errs.Invalid and named by its number; no error repeats a word.
func ParseSheet(text string) (*seal.KeyFile, error) {
	var root [seal.KeySize]byte
	var seen [sheetRows]bool
	lines := bufio.NewScanner(strings.NewReader(strings.ToLower(text)))
	for lines.Scan() {
		row, b, ok, err := parseRow(lines.Text())
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if seen[row] {
			return nil, fmt.Errorf("recovery sheet: row %d is there twice: %w", row+1, errs.Invalid)
		}
		seen[row] = true
		copy(root[row*rowBytes:], b[:])
	}
	for row, there := range seen {
		if !there {
			return nil, fmt.Errorf("recovery sheet: row %d is missing: %w", row+1, errs.Invalid)
		}
	}
	return seal.ParseKeyFile([]byte("TUSKVAULT-KEY-1 " + base64.StdEncoding.EncodeToString(root[:])))
}

// parseRow reads "number word word word"; ok is false for a line that is none.
func parseRow(line string) (row int, b [rowBytes]byte, ok bool, err error) {
	f := strings.Fields(line)
	if len(f) != 4 || len(f[0]) != 1 || f[0] < "1" || f[0] > "8" {
		return 0, b, false, nil
	}
	row = int(f[0][0] - '1')
	var n [3]uint16
	for i, w := range f[1:] {
		if n[i], ok = number(w); !ok {
			return 0, b, false, fmt.Errorf("recovery sheet: row %d: word %d is none: %w", row+1, i+1, errs.Invalid)
		}
	}
	binary.BigEndian.PutUint16(b[:], n[0])
	binary.BigEndian.PutUint16(b[2:], n[1])
	if rowCheck(row, b[:]) != n[2] {
		return 0, b, false, fmt.Errorf("recovery sheet: row %d: mistyped, its third word does not fit: %w", row+1, errs.Invalid)
	}
	return row, b, true, nil
}

// word gives 16 bits as consonant, vowel, consonant, vowel, consonant.
func word(n uint16) string {
	return string([]byte{consonants[n>>12&15], vowels[n>>10&3], consonants[n>>6&15], vowels[n>>4&3], consonants[n&15]})
}

// number reads what word gives.
func number(w string) (n uint16, ok bool) {
	if len(w) != 5 {
		return 0, false
	}
	for i := range len(w) {
		set, bits := consonants, 4
		if i%2 == 1 {
			set, bits = vowels, 2
		}
		v := strings.IndexByte(set, w[i])
		if v < 0 {
			return 0, false
		}
		n = n<<bits | uint16(v)
	}
	return n, true
}

// ConfirmWord gives a random word of 32 bits, to be printed on a sheet and asked
// for later, as proof that the sheet exists. It opens nothing.
func ConfirmWord() string {
	k := seal.NewKey()
	return word(binary.BigEndian.Uint16(k[:])) + "-" + word(binary.BigEndian.Uint16(k[2:]))
}

// Confirmation gives what is kept of a confirmation word. Case and white space
// around it do not matter.
func Confirmation(word string) [32]byte {
	return sha256.Sum256([]byte("sheet " + strings.ToLower(strings.TrimSpace(word))))
}
