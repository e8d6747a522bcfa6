package sqltext

import "github.com/tuskvault/tuskvault/internal/pg"

// QualifiedName is a schema and a name in it.
type QualifiedName struct{ Schema, Name pg.Name }

// Quoted gives the name as SQL.
func (q QualifiedName) Quoted() string { return q.Schema.Quote() + "." + q.Name.Quote() }

// String names it for people.
func (q QualifiedName) String() string { return q.Schema.Display() + "." + q.Name.Display() }

// Move gives the statement for objects that are in other schemas: to tells the
// schema of a qualified name, and whether it moved. Names in strings are reached
// where they are cast to regclass, as those of sequences in defaults are.
func Move(sql string, to func(QualifiedName) (pg.Name, bool)) string {
	all := Tokens(sql)
	var edits []edit
	for i := 0; i < len(all); i++ {
		t := all[i]
		switch {
		case t.Literal && isRegclass(all[i+1:]):
			if q, rest, ok := Qualified(Tokens(t.Text)); ok && len(rest) == 0 {
				if schema, moved := to(q); moved {
					edits = append(edits, edit{t.Start, t.End, pg.Name(QualifiedName{schema, q.Name}.Quoted()).Literal()})
				}
			}
		case t.Name && (i == 0 || all[i-1].Text != "." || all[i-1].Name):
			q, rest, ok := Qualified(all[i:])
			if !ok {
				continue
			}
			if schema, moved := to(q); moved {
				edits = append(edits, edit{t.Start, t.End, schema.Quote()})
			}
			i = len(all) - len(rest) - 1
		}
	}
	return apply(sql, edits)
}

// Qualified reads SCHEMA.NAME at the beginning; what follows a further dot, a
// column, belongs to it and is passed over.
func Qualified(all []Token) (q QualifiedName, rest []Token, ok bool) {
	dot := func(i int) bool { return i < len(all) && all[i].Text == "." && !all[i].Name && !all[i].Literal }
	if len(all) < 3 || !all[0].Name || !dot(1) || !all[2].Name {
		return q, all, false
	}
	q = QualifiedName{pg.Name(all[0].Text), pg.Name(all[2].Text)}
	n := 3
	for dot(n) && n+1 < len(all) && all[n+1].Name {
		n += 2
	}
	return q, all[n:], true
}

// isRegclass tells whether ::regclass or ::pg_catalog.regclass follows.
func isRegclass(all []Token) bool {
	if len(all) < 3 || all[0].Text != ":" || all[1].Text != ":" {
		return false
	}
	all = all[2:]
	if len(all) > 2 && all[0].Keyword == "PG_CATALOG" && all[1].Text == "." {
		all = all[2:]
	}
	return all[0].Keyword == "REGCLASS"
}

// OwnedBy gives the table that a sequence belongs to, of ALTER SEQUENCE … OWNED BY.
func OwnedBy(sql string) (QualifiedName, bool) {
	all := Tokens(sql)
	for i, t := range all {
		if t.Keyword == "BY" && i > 0 && all[i-1].Keyword == "OWNED" {
			q, _, ok := Qualified(all[i+1:])
			return q, ok
		}
	}
	return QualifiedName{}, false
}

// Object gives the qualified name that follows the kind in DROP kind [IF EXISTS] name.
func Object(drop string) (QualifiedName, bool) {
	all := Tokens(drop)
	for i := 1; i < len(all); i++ {
		if q, _, ok := Qualified(all[i:]); ok {
			return q, true
		}
	}
	return QualifiedName{}, false
}

// Attached tells whether a statement of a table (of pg_dump 13) also makes it a
// partition, of which parent, and gives the statement without that.
func Attached(sql string) (parent QualifiedName, without string, ok bool) {
	all := Tokens(sql)
	for i, t := range all {
		if t.Keyword != "ATTACH" || i+1 >= len(all) || all[i+1].Keyword != "PARTITION" {
			continue
		}
		from := i // ALTER TABLE ONLY parent ATTACH PARTITION child …;
		for from > 0 && all[from-1].Text != ";" {
			from--
		}
		to := i
		for to < len(all)-1 && all[to].Text != ";" {
			to++
		}
		for j := from; j < i; j++ {
			if parent, _, ok = Qualified(all[j:i]); ok {
				return parent, sql[:all[from].Start] + sql[all[to].End:], true
			}
		}
	}
	return QualifiedName{}, sql, false
}

// References gives the table that a foreign key refers to.
func References(sql string) (QualifiedName, bool) {
	all := Tokens(sql)
	for i, t := range all {
		if t.Keyword == "REFERENCES" {
			q, _, ok := Qualified(all[i+1:])
			return q, ok
		}
	}
	return QualifiedName{}, false
}
