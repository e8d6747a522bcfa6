package pg

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Name is the exact bytes of a PostgreSQL identifier (or of any catalog text)
// in the server's encoding. In a SQL_ASCII database it need not be UTF-8, so a
// Name is never put into a field that must be.
type Name string

// Display gives the name for people and for the wire: valid UTF-8, with
// backslashes doubled and every byte that is not part of valid UTF-8, and every
// control character, written \xHH. Two different names never look the same.
func (n Name) Display() string {
	var b strings.Builder
	for s := string(n); s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case (r == utf8.RuneError && size == 1) || r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// Quote gives the name as a quoted SQL identifier.
func (n Name) Quote() string { return `"` + strings.ReplaceAll(string(n), `"`, `""`) + `"` }

// Literal gives the name as a SQL string literal that means the same whatever
// standard_conforming_strings says.
func (n Name) Literal() string {
	s := strings.ReplaceAll(string(n), `'`, `''`)
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return `'` + s + `'`
}

// MarshalJSON writes a string when the name is UTF-8, else {"base64": "…"}, so
// that every byte survives.
func (n Name) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(n)) {
		return json.Marshal(string(n))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(n))})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Name) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(n))
	}
	var v struct {
		Base64 []byte `json:"base64"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*n = Name(v.Base64)
	return nil
}
