package blob_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
)

func TestEachWrapperKeepsTheContract(t *testing.T) {
	for name, wrap := range map[string]func(blob.Store) blob.Store{
		"retry":  func(s blob.Store) blob.Store { return blob.Retry(s, blob.RetryOptions{}) },
		"limit":  func(s blob.Store) blob.Store { return blob.Limit(s, 2) },
		"meter":  func(s blob.Store) blob.Store { return new(blob.Meter).Store(s) },
		"faulty": func(s blob.Store) blob.Store { return blobtest.NewFaulty(s) },
		"all": func(s blob.Store) blob.Store {
			return new(blob.Meter).Store(blob.Limit(blob.Retry(s, blob.RetryOptions{}), 4))
		},
	} {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, func(*testing.T) blob.Store { return wrap(mem.New()) })
		})
	}
}
