package controller

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

// storeURL is a store's place, taken apart: a folder or a bucket.
type storeURL struct {
	// folder of a local store; empty for a bucket.
	folder string
	bucket s3.Config
}

// parseStore reads a store's URL. Credentials are never part of one, and what
// may be one is not repeated.
func parseStore(text string) (storeURL, error) {
	scheme, _, _ := strings.Cut(text, ":")
	if scheme == "s3" {
		c, err := s3.ParseURL(text)
		return storeURL{bucket: c}, err
	}
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "" && u.Fragment == "" && u.User == nil {
		return storeURL{folder: filepath.Clean(u.Path)}, nil
	}
	return storeURL{}, fmt.Errorf("must be file:///absolute/path or s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path_style=true: %w", errs.Invalid)
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

// openStore opens a store that exists; with create it makes a folder (never a
// bucket). What passes is retried around it, once, for everybody.
func openStore(ctx context.Context, text string, create bool) (blob.Store, error) {
	u, err := parseStore(text)
	if err != nil {
		return nil, err
	}
	if u.folder == "" {
		s, err := s3.Open(ctx, u.bucket)
		if err != nil {
			return nil, err
		}
		return blob.Retry(blob.Limit(s, maxStoreCalls), blob.RetryOptions{Call: bucketCall}), nil
	}
	open := dir.Open
	if create {
		open = dir.Create
	}
	s, err := open(u.folder)
	if err != nil {
		return nil, err
	}
	return blob.Retry(blob.Limit(s, maxStoreCalls), blob.RetryOptions{}), nil
}
