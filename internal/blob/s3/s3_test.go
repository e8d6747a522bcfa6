package s3_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a store until the test ends.
func open(t *testing.T, c s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func config(t *testing.T, url string) s3.Config {
	t.Helper()
	c, err := s3.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStoreKeepsTheContract(t *testing.T) {
	server := s3test.Start(t)
	for _, prefix := range []string{"", "Some/pre.fix"} {
		t.Run(fmt.Sprintf("prefix %q", prefix), func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Store {
				return open(t, config(t, server.URL(server.Bucket(t), prefix)))
			})
		})
	}
}

func TestStoreKeepsTheContractUnderRetries(t *testing.T) {
	server := s3test.Start(t)
	blobtest.Run(t, func(t *testing.T) blob.Store {
		return blob.Retry(blob.Limit(open(t, config(t, server.URL(server.Bucket(t), "p"))), 8), blob.RetryOptions{})
	})
}

func TestOpeningLeavesNothingInTheBucket(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	open(t, config(t, server.URL(bucket, "p/q")))
	err := filepath.WalkDir(server.Folder(bucket), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(path, ".sgwtmp") {
			t.Errorf("left: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
