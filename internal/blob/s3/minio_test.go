package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// A second voice beside versitygw: other words for a lock, other lists of versions.
func TestMinIOKeepsTheContract(t *testing.T) {
	endpoint := s3test.StartMinIO(t)
	var buckets atomic.Int64
	bucket := func(t *testing.T, versions bool) s3.Config {
		name := fmt.Sprintf("bucket-%d", buckets.Add(1))
		s3test.MakeBucket(t, endpoint, name, versions)
		return s3.Config{Bucket: name, Prefix: "p", Endpoint: endpoint, PathStyle: true}
	}
	for _, versions := range []bool{false, true} {
		t.Run(fmt.Sprintf("versions %v", versions), func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Store { return retrying(open(t, bucket(t, versions))) })
		})
	}
	t.Run("versions", func(t *testing.T) {
		blobtest.RunVersioned(t, func(t *testing.T) (blob.Store, blobtest.Attacker) {
			c := bucket(t, true)
			s := open(t, c)
			s.SmallPages()
			return retrying(s), s3test.NewAttacker(endpoint, c.Bucket, "p/")
		})
	})
	for _, mode := range []string{s3.Governance, s3.Compliance} {
		t.Run("lock "+mode, func(t *testing.T) {
			c := bucket(t, true)
			c.LockMode, c.LockDays = mode, 1
			s := open(t, c)
			create(t, s, "a", blob.Bytes("one"))
			if _, err := s.Lock(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			for range 2 {
				kindIs(t, s.Delete(t.Context(), "a"), errs.Locked)
				_, err := s.Stat(t.Context(), "a")
				kindIs(t, err, errs.NotFound)
			}
			_, err := s.Lock(t.Context(), "a")
			kindIs(t, err, errs.NotFound)
		})
	}
}
