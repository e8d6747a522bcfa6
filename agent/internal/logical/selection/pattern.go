package selection

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/nearest"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// Pattern is one pattern of names, as psql reads them: outside of double quotes
// letters fold to lower case, * stands for anything, ? for one character and
// [a-z] for one of a set; a dot separates schema and name. A name also matches
// in its display form.
type Pattern struct {
	text         string
	schema, name []element // schema is nil where none was given
	qualified    bool
}

// element matches a character, or with star any number of them.
type element struct {
	star, any, not bool
	set            []span
}

type span struct{ from, to rune }

func (e element) matches(r rune) bool {
	if e.any {
		return true
	}
	return slices.ContainsFunc(e.set, func(s span) bool { return s.from <= r && r <= s.to }) != e.not
}

// String gives the pattern as it was written.
func (p Pattern) String() string { return p.text }

// ParseTable reads TABLE or SCHEMA.TABLE. The error's kind is errs.Invalid.
func ParseTable(s string) (Pattern, error) {
	parts, err := parse(s)
	switch {
	case err != nil:
		return Pattern{}, err
	case len(parts) == 1:
		return Pattern{text: s, name: parts[0]}, nil
	case len(parts) == 2:
		return Pattern{text: s, schema: parts[0], name: parts[1], qualified: true}, nil
	}
	return Pattern{}, fmt.Errorf("pattern %s: more than SCHEMA.TABLE; the database is named apart: %w", s, errs.Invalid)
}

// ParseSchema reads a pattern of schemas.
func ParseSchema(s string) (Pattern, error) {
	parts, err := parse(s)
	if err == nil && len(parts) > 1 {
		err = fmt.Errorf("pattern %s: a schema's name has no dot outside of quotes: %w", s, errs.Invalid)
	}
	if err != nil {
		return Pattern{}, err
	}
	return Pattern{text: s, name: parts[0]}, nil
}

// parse splits a pattern at its dots.
func parse(s string) ([][]element, error) {
	bad := func(why string) ([][]element, error) {
		return nil, fmt.Errorf("pattern %s: %s: %w", s, why, errs.Invalid)
	}
	parts := [][]element{nil}
	add := func(e element) { parts[len(parts)-1] = append(parts[len(parts)-1], e) }
	quotes := false
	all := []rune(s)
	for i := 0; i < len(all); i++ {
		r := all[i]
		switch {
		case r == '"' && quotes && i+1 < len(all) && all[i+1] == '"':
			add(element{set: []span{{'"', '"'}}})
			i++
		case r == '"':
			quotes = !quotes
		case quotes:
			add(element{set: []span{{r, r}}})
		case r == '.':
			parts = append(parts, nil)
		case r == '*':
			add(element{star: true})
		case r == '?':
			add(element{any: true})
		case r == '[':
			e, n := class(all[i:])
			if n == 0 {
				return bad("[ without ]")
			}
			add(e)
			i += n - 1
		default:
			r = unicode.ToLower(r)
			add(element{set: []span{{r, r}}})
		}
	}
	if quotes {
		return bad("a double quote without its end")
	}
	for _, p := range parts {
		if len(p) == 0 {
			return bad("a name is empty")
		}
	}
	return parts, nil
}

// class reads [abc], [a-z] or [^a-z] and gives its length, 0 when it has no end.
func class(all []rune) (e element, n int) {
	n = 1
	if n < len(all) && (all[n] == '^' || all[n] == '!') {
		e.not = true
		n++
	}
	for first := true; n < len(all); first = false {
		if all[n] == ']' && !first {
			return e, n + 1
		}
		s := span{all[n], all[n]}
		if n+2 < len(all) && all[n+1] == '-' && all[n+2] != ']' {
			s.to = all[n+2]
			n += 2
		}
		e.set = append(e.set, s)
		n++
	}
	return e, 0
}

// MatchSchema tells whether a schema's name matches.
func (p Pattern) MatchSchema(name pg.Name) bool { return matchName(p.name, name) }

// MatchTable tells whether a table matches.
func (p Pattern) MatchTable(schema, name pg.Name) bool {
	return (!p.qualified || matchName(p.schema, schema)) && matchName(p.name, name)
}

func matchName(pattern []element, name pg.Name) bool {
	raw, display := string(name), name.Display()
	return match(pattern, []rune(raw)) || display != raw && match(pattern, []rune(display))
}

// match goes back to the last star only: that is enough, and keeps the time
// below pattern times name.
func match(pattern []element, name []rune) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p].star:
			star, from = p, n
			p++
		case p < len(pattern) && pattern[p].matches(name[n]):
			p, n = p+1, n+1
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p].star {
		p++
	}
	return p == len(pattern)
}

// maxNear is how many names are offered in place of one that does not exist.
// nearEdits how many edits away such a name may be.
const (
	maxNear   = 3
	nearEdits = 2
)

// near gives the names that may have been meant.
func near(pattern string, names []string) []string {
	want := strings.ToLower(strings.Trim(pattern, `"`))
	_, last, qualified := strings.Cut(want, ".")
	if !qualified {
		last = want
	}
	return nearest.Names(names, maxNear, nearEdits+1, func(n string) int {
		low := strings.ToLower(n)
		_, own, ok := strings.Cut(low, ".")
		if !ok {
			own = low
		}
		d := nearest.Distance(want, low, nearEdits)
		if own == last || !qualified && own == want {
			d = 0
		} else if !qualified {
			d = min(d, nearest.Distance(want, own, nearEdits))
		}
		plain := strings.Trim(last, "*?")
		holds := len(want) >= 3 && plain != "" && strings.Contains(own, plain)
		if d > nearEdits && !holds {
			return d + 1 // further than one that holds what was asked for
		}
		return d
	})
}
