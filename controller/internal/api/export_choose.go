package api

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// maxExportDatabases bounds the databases named in one begin.
const maxExportDatabases = 1024

// chooseContent gives the part of a content that an export asks for. The content
// itself, which others read too, is not changed.
func chooseContent(content *repo.Content, b *tuskvaultv1.ExportBegin) (*repo.Content, error) {
	if content.Logical == nil {
		return nil, fmt.Errorf("of kind %q: %w", content.Kind, errs.Unsupported)
	}
	if len(b.GetDatabases()) > maxExportDatabases {
		return nil, field("databases", "%d are named, at most %d are taken", len(b.GetDatabases()), maxExportDatabases)
	}
	out := *content
	out.Logical = &repo.Logical{Globals: repo.Globals{PasswordsRead: content.Logical.Globals.PasswordsRead}}
	if b.GetGlobals() {
		globals, err := withoutPasswords(content.Logical.Globals, b.GetPasswords())
		if err != nil {
			return nil, err
		}
		out.Logical.Globals = globals
	}
	if b.GetAllDatabases() {
		out.Logical.Databases = content.Logical.Databases
		return &out, nil
	}
	var names []string
	for i := range content.Logical.Databases {
		names = append(names, content.Logical.Databases[i].Name.Display())
	}
	for _, name := range b.GetDatabases() {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, notFound("database", clip(name, maxReference), names)
		}
		out.Logical.Databases = append(out.Logical.Databases, content.Logical.Databases[i])
	}
	return &out, nil
}

// withoutPasswords takes the hashes of roles' passwords out, unless they are to stay.
func withoutPasswords(g repo.Globals, stay bool) (repo.Globals, error) {
	if stay {
		return g, nil
	}
	roles := make([]json.RawMessage, len(g.Roles))
	for i, raw := range g.Roles {
		var row map[string]json.RawMessage
		if err := json.Unmarshal(raw, &row); err != nil {
			return g, fmt.Errorf("role %d: %w: %w", i, err, errs.Corrupt)
		}
		if _, ok := row["rolpassword"]; ok {
			row["rolpassword"] = json.RawMessage("null")
		}
		text, err := json.Marshal(row)
		if err != nil {
			return g, fmt.Errorf("role %d: %w", i, err)
		}
		roles[i] = text
	}
	g.Roles = roles
	return g, nil
}

// spanSet are runs of entries by list, in order and apart from each other.
type spanSet map[uint32][]repo.Span

// permittedSpans gives the spans of all streams of a content.
func permittedSpans(c *repo.Content) spanSet {
	set := spanSet{}
	add := func(s repo.Stream) {
		for _, p := range s.Spans {
			set[p.List] = append(set[p.List], p)
		}
	}
	for i := range c.Logical.Databases {
		d := &c.Logical.Databases[i]
		if d.Archive != nil {
			add(d.Archive.Stream)
		}
		for j := range d.Tables {
			for k := range d.Tables[j].Runs {
				add(d.Tables[j].Runs[k].Stream)
			}
		}
		if o := d.LargeObjects; o != nil {
			add(o.Data)
			add(o.Meta)
		}
	}
	for _, list := range set {
		slices.SortFunc(list, func(a, b repo.Span) int { return int(int64(a.First) - int64(b.First)) })
	}
	return set
}

// has tells whether all entries of a span are within one of the set.
func (s spanSet) has(p repo.Span) bool {
	list := s[p.List]
	i, found := slices.BinarySearchFunc(list, p.First, func(s repo.Span, first uint32) int { return int(int64(s.First) - int64(first)) })
	if !found {
		i--
	}
	return i >= 0 && p.Count > 0 && uint64(p.First)+uint64(p.Count) <= uint64(list[i].First)+uint64(list[i].Count)
}
