package controller

import (
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// storeURL is a store's place, taken apart.
type storeURL struct {
	// folder of a local store.
	folder string
}

// parseStore reads a store's URL. Credentials are never part of one.
func parseStore(text string) (storeURL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return storeURL{}, fmt.Errorf("store %q: not a URL: %w", text, errs.Invalid)
	}
	switch {
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "" && u.User == nil:
		return storeURL{folder: filepath.Clean(u.Path)}, nil
	case u.Scheme == "file":
		return storeURL{}, fmt.Errorf("store %q: must be file:///absolute/path: %w", text, errs.Invalid)
	case u.Scheme == "s3":
		return storeURL{}, fmt.Errorf("store %q: S3 stores are not in this version: %w", text, errs.Unsupported)
	}
	return storeURL{}, fmt.Errorf("store %q: must be file:///absolute/path: %w", text, errs.Invalid)
}

// maxStoreCalls bounds calls to the store at once: packs, index files, log
// records and reads together. A folder gains nothing from more.
const maxStoreCalls = 64

// openStore opens a store that exists, or with create makes it; what passes is
// retried around it, once, for everybody.
func openStore(text string, create bool) (blob.Store, error) {
	u, err := parseStore(text)
	if err != nil {
		return nil, err
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
