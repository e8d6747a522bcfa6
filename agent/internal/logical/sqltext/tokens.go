package sqltext

import "strings"

// Token is a word of a statement.
type Token struct {
	// Text is without quotes.
	Text string
	// Start and End bound it in the statement, with its quotes.
	Start, End int
	// Name tells a word or a quoted identifier, Literal a string in single quotes,
	// Body one in dollar quotes.
	Name, Literal, Body bool
	// Keyword is Text in upper case of an unquoted word, else "".
	Keyword string
}

// Tokens splits a statement; comments are left out.
func Tokens(sql string) []Token {
	var all []Token
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			n := strings.IndexByte(sql[i:], '\n')
			if n < 0 {
				return all
			}
			i += n
		case c == '"' || c == '\'':
			text, n := Unquote(sql[i:])
			all = append(all, Token{Text: text, Start: i, End: i + n, Name: c == '"', Literal: c == '\''})
			i += n
		case c == '$' && dollarTag(sql[i:]) != "":
			tag := dollarTag(sql[i:])
			n := strings.Index(sql[i+len(tag):], tag)
			if n < 0 {
				n = len(sql) - i - 2*len(tag)
			}
			end := min(i+n+2*len(tag), len(sql))
			all = append(all, Token{Text: sql[i+len(tag) : max(end-len(tag), i+len(tag))], Start: i, End: end, Body: true})
			i = end
		case wordByte(c):
			n := 1
			for i+n < len(sql) && wordByte(sql[i+n]) {
				n++
			}
			word := sql[i : i+n]
			all = append(all, Token{Text: word, Start: i, End: i + n, Name: true, Keyword: strings.ToUpper(word)})
			i += n
		default:
			all = append(all, Token{Text: sql[i : i+1], Start: i, End: i + 1})
			i++
		}
	}
	return all
}

// dollarTag gives the opening quote that s begins with, "$$" or "$tag$", or "".
func dollarTag(s string) string {
	for n := 1; n < len(s); n++ {
		switch c := s[n]; {
		case c == '$':
			return s[:n+1]
		case !wordByte(c) || n == 1 && c >= '0' && c <= '9':
			return ""
		}
	}
	return ""
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// Unquote reads the identifier or string literal in quotes that sql begins with,
// with doubled quotes in it, and gives its length with the quotes.
func Unquote(sql string) (text string, n int) {
	q := sql[0]
	var b strings.Builder
	for n = 1; n < len(sql); n++ {
		if sql[n] == q {
			if n+1 < len(sql) && sql[n+1] == q {
				n++
			} else {
				return b.String(), n + 1
			}
		}
		b.WriteByte(sql[n])
	}
	return b.String(), n
}

// edit replaces a stretch of a statement.
type edit struct {
	start, end int
	text       string
}

// apply makes edits, which are in order and do not overlap.
func apply(sql string, edits []edit) string {
	if len(edits) == 0 {
		return sql
	}
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(sql[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(sql[at:])
	return b.String()
}
