package controller

import (
	"context"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/place"
)

// openStore opens a store that exists; with create it makes a folder (never a
// bucket).
func openStore(ctx context.Context, text string, create bool) (blob.Store, error) {
	p, err := place.Parse(text)
	if err != nil {
		return nil, err
	}
	if create {
		return p.Create(ctx)
	}
	return p.Open(ctx)
}
