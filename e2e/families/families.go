// Package families has one SQL file for each family of things that a PostgreSQL
// database can hold, with what must be true of a database that was restored.
// The tests of the whole back each up and restore it through the real programs,
// on every major version that has the feature.
//
// A file begins with a line that says what it is about. Then come statements,
// those of a paragraph sent as one query, and directives:
//
//	-- @since 14                 the first major version that has it
//	-- @database ENCODING '…'    options of CREATE DATABASE
//	-- @globals                  the statements that follow make roles and the like,
//	                             on the source and, unless it is the same, on the target
//	-- @setup [17+]              back to statements of the database, for these versions
//	-- @session                  statements of a session that stays open during the backup
//	-- @problem WORDS            what backup or restore must say of it; anything else said is a failure
//	-- @reordered TABLE          whose columns come back in another order, as pg_dump has them
//	-- @differs TABLE            whose rows may differ, and why
//	-- @reworded TABLE           whose text 15 and later write otherwise than 13 and 14
//	-- @check [17+] WHAT         a query that must give the same rows in both databases,
//	-- @gives                    and these, each line a row, columns apart by " | "
//	-- @fails SQLSTATE           instead: the query must fail so in both
//
// :DATABASE stands for the quoted name of the database, :FOLDER for a folder
// that the server may write.
package families

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

//go:embed extension
var extension embed.FS

// Family is one file.
type Family struct {
	// Name is the file's, Title its first line.
	Name, Title string
	// Since is the first major version that has the feature.
	Since int
	// Create are options of CREATE DATABASE.
	Create string
	// Globals, Setup and Session are queries.
	Globals, Setup, Session []Query
	Checks                  []Check
	// Problems are what backup or restore must say.
	Problems []string
	// Reordered are tables, qualified, whose columns come back in another order.
	Reordered []string
	// Reworded are tables whose fingerprint is another from 15 on.
	Reworded []string
	// Differs are tables whose rows may differ.
	Differs []string
}

// Query is a query for servers from a major version on.
type Query struct {
	Since int
	SQL   string
}

// Check is a query with what it must give.
type Check struct {
	Query
	What string
	// Gives are the rows; nil when only both databases must agree.
	Gives []string
	// Fails is the SQLSTATE with which it must fail.
	Fails string
}

// Extensions are the files of the extension that some families create, by name.
func Extensions() (map[string]string, error) {
	all := map[string]string{}
	return all, fs.WalkDir(extension, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(extension, p)
		all[path.Base(p)] = string(b)
		return err
	})
}

// All reads every family, in order of their names.
func All() ([]*Family, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var all []*Family
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		f, err := parse(strings.TrimSuffix(name, ".sql"), string(text))
		if err != nil {
			return nil, fmt.Errorf("family %s: %w", name, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// parser reads a file line by line.
type parser struct {
	f     *Family
	part  string // what the lines belong to
	since int    // of the queries that follow
	lines []string
}

var versions = regexp.MustCompile(`^(\d+)\+ ?`)

func parse(name, text string) (*Family, error) {
	p := &parser{f: &Family{Name: name, Since: 13}, part: "setup"}
	for i, line := range strings.Split(text, "\n") {
		if i == 0 {
			title, ok := strings.CutPrefix(line, "-- ")
			if !ok {
				return nil, fmt.Errorf("the first line is no comment")
			}
			p.f.Title = title
			continue
		}
		directive, ok := strings.CutPrefix(line, "-- @")
		switch {
		case ok:
			p.flush()
			word, rest, _ := strings.Cut(directive, " ")
			if err := p.directive(word, strings.TrimSpace(rest)); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		case p.part == "gives":
			if row, ok := strings.CutPrefix(line, "-- "); ok {
				c := &p.f.Checks[len(p.f.Checks)-1]
				c.Gives = append(c.Gives, row)
			}
		case line == "" && p.part != "check":
			p.flush()
		default:
			p.lines = append(p.lines, line)
		}
	}
	p.flush()
	for _, c := range p.f.Checks {
		if c.SQL == "" {
			return nil, fmt.Errorf("check %q has no query", c.What)
		}
	}
	if len(p.f.Checks) == 0 {
		return nil, fmt.Errorf("it checks nothing")
	}
	return p.f, nil
}

// flush adds the lines gathered so far to their part.
func (p *parser) flush() {
	sql := strings.TrimSpace(strings.Join(p.lines, "\n"))
	p.lines = nil
	if sql == "" {
		return
	}
	q := Query{p.since, sql}
	switch p.part {
	case "setup":
		p.f.Setup = append(p.f.Setup, q)
	case "globals":
		p.f.Globals = append(p.f.Globals, q)
	case "session":
		p.f.Session = append(p.f.Session, q)
	case "check":
		p.f.Checks[len(p.f.Checks)-1].SQL = sql
	}
}

func (p *parser) directive(word, rest string) error {
	since := 0
	if m := versions.FindStringSubmatch(rest); m != nil && (word == "setup" || word == "check") {
		since, _ = strconv.Atoi(m[1]) // digits
		rest = rest[len(m[0]):]
	}
	last := len(p.f.Checks) - 1
	if last < 0 && (word == "gives" || word == "fails") {
		return fmt.Errorf("@%s before any check", word)
	}
	switch word {
	case "since":
		var err error
		p.f.Since, err = strconv.Atoi(rest)
		return err
	case "database":
		p.f.Create = rest
	case "problem":
		p.f.Problems = append(p.f.Problems, rest)
	case "differs":
		table, _, _ := strings.Cut(rest, " ")
		p.f.Differs = append(p.f.Differs, table)
	case "reordered":
		p.f.Reordered = append(p.f.Reordered, rest)
	case "reworded":
		p.f.Reworded = append(p.f.Reworded, rest)
	case "globals", "setup", "session":
		p.part, p.since = word, since
	case "check":
		p.part, p.since = word, since
		p.f.Checks = append(p.f.Checks, Check{Query: Query{Since: since}, What: rest})
	case "gives":
		p.part = word
		p.f.Checks[last].Gives = []string{}
	case "fails":
		p.f.Checks[last].Fails = rest
	default:
		return fmt.Errorf("unknown directive @%s", word)
	}
	return nil
}
