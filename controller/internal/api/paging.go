package api

import (
	"encoding/base64"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// maxPageToken bounds a page token before it is looked at, in bytes.
const maxPageToken = 1024

// parsePage checks which page is asked for. The token is the catalog's own.
func parsePage(r *tuskvaultv1.PageRequest) (catalog.Page, error) {
	p := catalog.Page{Size: int(r.GetSize()), Token: r.GetToken()}
	switch {
	case p.Size < 0 || p.Size > catalog.MaxPage:
		return p, field("page.size", "%d: want 0 (the default, %d) to %d", p.Size, catalog.DefaultPage, catalog.MaxPage)
	case len(p.Token) > maxPageToken:
		return p, field("page.token", "is no token of an earlier answer")
	case p.Size == 0:
		p.Size = catalog.DefaultPage
	}
	return p, nil
}

// toPage says how to go on.
func toPage(next string) *tuskvaultv1.PageResponse { return &tuskvaultv1.PageResponse{NextToken: next} }

// take cuts one page out of rows that are in ascending order of key. The token
// is the last key shown.
func take[T any](rows []T, p catalog.Page, key func(T) string) ([]T, string, error) {
	after, err := base64.RawURLEncoding.DecodeString(p.Token)
	if err != nil {
		return nil, "", field("page.token", "is no token of an earlier answer")
	}
	for len(after) > 0 && len(rows) > 0 && key(rows[0]) <= string(after) {
		rows = rows[1:]
	}
	if len(rows) <= p.Size {
		return rows, "", nil
	}
	rows = rows[:p.Size]
	return rows, base64.RawURLEncoding.EncodeToString([]byte(key(rows[len(rows)-1]))), nil
}

// each calls fn for every row of a paged list.
func each[T any](list func(catalog.Page) ([]T, string, error), fn func(T) error) error {
	for page := (catalog.Page{Size: catalog.MaxPage}); ; {
		rows, next, err := list(page)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := fn(row); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.Token = next
	}
}

// maxPageBytes ends a page early: one message has at most rpc.MaxMessage, and
// the largest single row (an instance with ten thousand databases) must still
// fit beside what is there.
const maxPageBytes = 1 << 20

// gather fills one page row by row, until it has its size in rows or in bytes.
// add takes a row over and tells its size.
func gather[T any](page catalog.Page, list func(catalog.Page) ([]T, string, error), add func(T) (int, error)) (next string, err error) {
	step := catalog.Page{Size: 1, Token: page.Token}
	bytes := 0
	for n := 0; n < page.Size && bytes < maxPageBytes; n++ {
		rows, next, err := list(step)
		if err != nil {
			return "", err
		}
		for _, row := range rows {
			size, err := add(row)
			if err != nil {
				return "", err
			}
			bytes += size
		}
		if step.Token = next; next == "" {
			break
		}
	}
	return step.Token, nil
}
