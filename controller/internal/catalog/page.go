package catalog

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Page bounds a list.
type Page struct {
	// Size is the largest number of rows; 0 means DefaultPage, more than MaxPage is Invalid.
	Size int
	// Token is that of the page before, empty for the first.
	Token string
}

// DefaultPage and MaxPage bound the rows of one answer.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// maxScan bounds the rows that a filtered list looks at for one answer, so that
// a filter that matches nothing cannot hold a transaction open over a history of
// years; the answer is then short or empty and has a token to go on with.
const maxScan = 100_000

// maxMatches is how many matches of an ambiguous prefix are listed.
const maxMatches = 5

func (p Page) size() (int, error) {
	switch {
	case p.Size < 0 || p.Size > MaxPage:
		return 0, fmt.Errorf("page size %d: not within 0 and %d: %w", p.Size, MaxPage, errs.Invalid)
	case p.Size == 0:
		return DefaultPage, nil
	}
	return p.Size, nil
}

// A token is the key of the last row seen, behind the name of the list: a token
// of one list is not taken for one of another. It holds nothing that its reader
// has not just been shown, and selects only where a list goes on.
func (p Page) after(list string) ([]byte, error) {
	if p.Token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Token)
	name, key, ok := bytes.Cut(raw, []byte{0})
	if err != nil || !ok || string(name) != list || len(key) == 0 {
		return nil, fmt.Errorf("page token: not one of this list: %w", errs.Invalid)
	}
	return key, nil
}

func tokenOf(list string, key []byte) string {
	return base64.RawURLEncoding.EncodeToString(join([]byte(list), []byte{0}, key))
}

// list walks over keys of b that begin with prefix, one page of them, in order.
// row reads the record behind an entry; keep may drop it.
func list[R any](tx *Tx, b bucket, prefix []byte, page Page, row func(k, v []byte) (R, error), keep func(R) bool) ([]R, string, error) {
	size, err := page.size()
	if err != nil {
		return nil, "", err
	}
	name := string(b)
	after, err := page.after(name)
	if err != nil {
		return nil, "", err
	}
	c := tx.cursor(b)
	k, v := c.Seek(prefix)
	if after != nil {
		if !bytes.HasPrefix(after, prefix) {
			return nil, "", fmt.Errorf("page token: not one of this list: %w", errs.Invalid)
		}
		if k, v = c.Seek(after); bytes.Equal(k, after) {
			k, v = c.Next()
		}
	}
	var rows []R
	var last []byte
	for scanned := 0; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if len(rows) == size || scanned == maxScan {
			return rows, tokenOf(name, last), nil
		}
		scanned++
		last = k
		r, err := row(k, v)
		if err != nil {
			return nil, "", err
		}
		if keep == nil || keep(r) {
			rows = append(rows, r)
		}
	}
	return rows, "", nil
}

// findPrefix finds the one key of b that begins with a prefix in hex digits. The
// key must be an id of idBytes, or begin with one.
func findPrefix(tx *Tx, b bucket, noun, prefix string, idBytes int) ([]byte, error) {
	low := strings.ToLower(prefix)
	if low == "" || len(low) > 2*idBytes || strings.Trim(low, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%s %q: %w", noun, prefix, errs.NotFound)
	}
	start, err := hex.DecodeString(low + strings.Repeat("0", len(low)%2))
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", noun, prefix, errs.NotFound)
	}
	var found []byte
	var matches []string
	c := tx.cursor(b)
	for k, _ := c.Seek(start); k != nil && strings.HasPrefix(hex.EncodeToString(k), low); k, _ = c.Next() {
		if len(matches) == 0 {
			found = bytes.Clone(k)
		}
		matches = append(matches, hex.EncodeToString(k[:min(len(k), 6)]))
		if len(matches) > maxMatches {
			break
		}
	}
	switch {
	case len(matches) == 0:
		return nil, fmt.Errorf("%s %s: %w", noun, prefix, errs.NotFound)
	case len(matches) == 1:
		return found, nil
	}
	return nil, ambiguous(noun, prefix, matches)
}

func ambiguous(noun, ref string, matches []string) error {
	count := fmt.Sprint(len(matches))
	if len(matches) > maxMatches {
		count, matches = fmt.Sprintf("more than %d", maxMatches), append(matches[:maxMatches:maxMatches], "…")
	}
	return fmt.Errorf("%s %s: matches %s: %s: %w", noun, ref, count, strings.Join(matches, ", "), errs.Conflict)
}
