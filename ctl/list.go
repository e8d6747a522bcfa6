package ctl

import (
	"context"

	"google.golang.org/protobuf/proto"

	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// pageSize is how many rows one list call asks for.
const pageSize = 500

// maxRows bounds what a list command holds in memory; beyond it the answer is
// cut and the command says so.
const maxRows = 200_000

// paged is an answer of a list call.
type paged interface {
	proto.Message
	GetPage() *tuskvaultv1.PageResponse
}

// all fetches every page and merges the pages into the first one. Merging
// appends lists, which is what joining pages means.
func all[T paged](ctx context.Context, a *app, rows func(T) int, fetch func(context.Context, *tuskvaultv1.PageRequest) (T, error)) (T, error) {
	return upTo(ctx, a, maxRows, rows, fetch)
}

func upTo[T paged](ctx context.Context, a *app, limit int, rows func(T) int, fetch func(context.Context, *tuskvaultv1.PageRequest) (T, error)) (T, error) {
	size := int32(min(limit, pageSize))
	first, err := fetch(ctx, &tuskvaultv1.PageRequest{Size: size})
	if err != nil {
		return first, err
	}
	for token := first.GetPage().GetNextToken(); token != ""; {
		if rows(first) >= limit {
			a.say("the first %d rows; there are more", rows(first))
			break
		}
		next, err := fetch(ctx, &tuskvaultv1.PageRequest{Size: size, Token: token})
		if err != nil {
			return first, err
		}
		token = next.GetPage().GetNextToken()
		proto.Merge(first, next)
	}
	if p := first.GetPage(); p != nil {
		p.NextToken = ""
	}
	return first, nil
}
