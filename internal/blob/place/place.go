// Package place finds the store that a URL names: a folder or a bucket.
package place

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Place is where a store is, taken apart.
type Place struct {
	// Folder of a local store; empty for a bucket.
	Folder string
	// Bucket is set when there is no Folder.
	Bucket s3.Config
}

// Parse reads a store's URL. Credentials are never part of one, and what may be
// one is not repeated in the error.
func Parse(text string) (Place, error) {
	scheme, _, _ := strings.Cut(text, ":")
	if scheme == "s3" {
		c, err := s3.ParseURL(text)
		return Place{Bucket: c}, err
	}
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "" && u.Fragment == "" && u.User == nil {
		return Place{Folder: filepath.Clean(u.Path)}, nil
	}
	return Place{}, fmt.Errorf("must be file:///absolute/path or s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path_style=true: %w", errs.Invalid)
}

const (
	// maxStoreCalls bounds calls to the store at once: packs, index files, log
	// records and reads together. A folder gains nothing from more.
	maxStoreCalls = 64
	// bucketCall bounds one attempt of a call to a bucket. The driver ends those in
	// which nothing moves within half a minute; a pack that moves, over a slow line,
	// may take its time.
	bucketCall = 20 * time.Minute
)

// Open opens a store that exists, for reading and writing. What passes is
// retried around it, once, for everybody.
func (p Place) Open(ctx context.Context) (blob.Store, error) { return p.open(ctx, dir.Open, s3.Open) }

// Create is Open that makes a folder (never a bucket).
func (p Place) Create(ctx context.Context) (blob.Store, error) {
	return p.open(ctx, dir.Create, s3.Open)
}

// OpenReadOnly opens a store that exists without changing anything in it, now or
// later: not even a trial of what it can do is written, and Create and Delete
// fail with errs.ReadOnly.
func (p Place) OpenReadOnly(ctx context.Context) (blob.Store, error) {
	s, err := p.open(ctx, dir.OpenReadOnly, s3.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	return blob.ReadOnly(s), nil
}

func (p Place) open(ctx context.Context, folder func(string) (*dir.Store, error), bucket func(context.Context, s3.Config) (*s3.Store, error)) (blob.Store, error) {
	if p.Folder == "" {
		s, err := bucket(ctx, p.Bucket)
		if err != nil {
			return nil, err
		}
		return blob.Retry(blob.Limit(s, maxStoreCalls), blob.RetryOptions{Call: bucketCall}), nil
	}
	s, err := folder(p.Folder)
	if err != nil {
		return nil, err
	}
	return blob.Retry(blob.Limit(s, maxStoreCalls), blob.RetryOptions{}), nil
}
