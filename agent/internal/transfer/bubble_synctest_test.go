package transfer_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestNoStageWaitsARoundTripForEachChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t)
		c.Latency = 100 * time.Millisecond
		conn, stop, err := c.Serve()
		must(t, err)
		began := time.Now()
		_, err = backup(t.Context(), conn, c.Backup(repo.NewID(), 1), transfer.Options{}, 1, 2000)
		must(t, err)
		// 64 buffers under way at most: 2,000 chunks take at least 31 round trips.
		if took := time.Since(began); took > 60*c.Latency {
			t.Errorf("2000 chunks took %s at a round trip of %s", took, c.Latency)
		}
		stop()
	})
}

func TestACommitIsRepeatedWhenItsAnswerIsLostAndOnlyThen(t *testing.T) {
	for _, tt := range []struct {
		name    string
		failure error
		commits int
		want    error
	}{
		{"unavailable", errs.Unavailable, 1, nil},
		{"conflict", errs.Conflict, 0, errs.Conflict},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newController(t)
			failed := false
			c.SetHook(func(_ int, m any) error {
				if p, ok := m.(interface{ GetContent() []byte }); ok && p.GetContent() != nil && !failed {
					failed = true
					return fmt.Errorf("commit: %w", tt.failure)
				}
				return nil
			})
			conn, stop, err := c.Serve()
			must(t, err)
			began := time.Now()
			_, err = backup(t.Context(), conn, c.Backup(repo.NewID(), 1), transfer.Options{}, 1, 3)
			if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) || c.Commits() != tt.commits {
				t.Errorf("%s: got %v after %s with %d commits", tt.name, err, time.Since(began), c.Commits())
			}
			stop()
		})
	}
}
