package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/agent/internal/transfer/transfertest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// stored is a controller with a snapshot of two tables of 100 chunks.
func stored(t *testing.T) (*transfertest.Controller, *grpc.ClientConn, job.Job) {
	t.Helper()
	c := newController(t)
	conn := serve(t, c)
	id := repo.NewID()
	_, err := backup(t.Context(), conn, c.Backup(id, 1), transfer.Options{}, 2, 100)
	must(t, err)
	j, err := c.Restore(id)
	must(t, err)
	return c, conn, j
}

func TestAChunkThatIsNotWhatItsNameSaysIsRefused(t *testing.T) {
	for name, change := range map[string]func(c *transfertest.Controller, j job.Job) func([]byte) []byte{
		"damaged": func(*transfertest.Controller, job.Job) func([]byte) []byte {
			return func(f []byte) []byte { f[len(f)-1]++; return f }
		},
		"another's content under the name": func(c *transfertest.Controller, j job.Job) func([]byte) []byte {
			return func(f []byte) []byte {
				h, err := seal.ParseHeader(f)
				must(t, err)
				g := c.Backup(repo.NewID(), 1).Grant
				f, err = seal.NewSealer(g.Domain, g.NewestEpoch, g.SealKeys[g.NewestEpoch], g.RefsKey).Seal(nil, h.Kind, h.Name, []byte("rubbish"))
				must(t, err)
				return f
			}
		},
		"gone": func(*transfertest.Controller, job.Job) func([]byte) []byte { return func([]byte) []byte { return nil } },
	} {
		t.Run(name, func(t *testing.T) {
			c, conn, j := stored(t)
			bad := seal.NewNamer(j.Grant.NameKey).Name(seal.KindRowsText, rows(1, 57))
			c.Change(bad, change(c, j))
			err := transfer.WithDownloader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, d *transfer.Downloader) error {
				streams, err := streamsOf(ctx, d, j)
				must(t, err)
				// One bad chunk does not end the others.
				err = compare(ctx, d, streams[1], 1, 100)
				must(t, compare(ctx, d, streams[0], 0, 100))
				return err
			})
			if !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "of list") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestAConsumerMayLeaveEarly(t *testing.T) {
	_, conn, j := stored(t)
	must(t, transfer.WithDownloader(t.Context(), conn, j, transfer.Options{Streams: 1}, func(ctx context.Context, d *transfer.Downloader) error {
		streams, err := streamsOf(ctx, d, j)
		must(t, err)
		for n := range 20 {
			i := 0
			for _, err := range d.Stream(ctx, streams[0]) {
				must(t, err)
				if i++; i > n {
					break
				}
			}
		}
		return compare(ctx, d, streams[0], 0, 100)
	}))
}

func TestAConsumerThatStopsDoesNotStarveTheOthers(t *testing.T) {
	_, conn, j := stored(t)
	must(t, transfer.WithDownloader(t.Context(), conn, j, transfer.Options{Streams: 2, Memory: 1}, func(ctx context.Context, d *transfer.Downloader) error {
		streams, err := streamsOf(ctx, d, j)
		must(t, err)
		for _, err := range d.Stream(ctx, streams[0]) {
			must(t, err)
			must(t, compare(ctx, d, streams[1], 1, 100))
			break
		}
		return nil
	}))
}

func TestADownloadEndsWithItsCause(t *testing.T) {
	_, conn, j := stored(t)
	lost := fmt.Errorf("lease lost: %w", errs.Canceled)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := transfer.WithDownloader(ctx, conn, j, transfer.Options{}, func(ctx context.Context, d *transfer.Downloader) error {
		streams, err := streamsOf(ctx, d, j)
		must(t, err)
		for _, err := range d.Stream(ctx, streams[0]) {
			if err != nil {
				return err
			}
			cancel(lost)
		}
		return nil
	})
	if !errors.Is(err, lost) {
		t.Fatalf("got %v", err)
	}
}

func TestSpansBeyondTheSnapshotAreRefused(t *testing.T) {
	_, conn, j := stored(t)
	must(t, transfer.WithDownloader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, d *transfer.Downloader) error {
		_, err := d.Snapshot(ctx)
		must(t, err)
		for _, tt := range []struct {
			span repo.Span
			want error
		}{
			{repo.Span{List: 99, Count: 1}, errs.Invalid},
			{repo.Span{First: 1 << 20, Count: 1}, errs.Corrupt},
			{repo.Span{First: 1<<32 - 1, Count: 1<<32 - 1}, errs.Corrupt},
		} {
			for _, err := range d.Stream(ctx, []repo.Span{tt.span}) {
				if !errors.Is(err, tt.want) {
					t.Errorf("%+v: got %v, want %v", tt.span, err, tt.want)
				}
			}
		}
		if _, err := d.List(ctx, 1000); !errors.Is(err, errs.Invalid) {
			t.Errorf("got %v", err)
		}
		plain, err := d.List(ctx, 0)
		must(t, err)
		_, err = repo.DecodeList(plain)
		return err
	}))
}

func TestACutDownloadFailsAndTheNextOneWorks(t *testing.T) {
	c, conn, j := stored(t)
	var messages, at atomic.Int64
	c.SetHook(func(_ int, m any) error {
		if _, ok := m.(*tuskvaultv1.DownloadRequest); ok && messages.Add(1) == at.Load() {
			return fmt.Errorf("the line is cut: %w", errs.Unavailable)
		}
		return nil
	})
	for cut := range int64(20) {
		messages.Store(0)
		at.Store(cut + 1)
		err := restore(t.Context(), conn, j, transfer.Options{Streams: 1, Memory: 1}, 1, 100)
		if err != nil && !errors.Is(err, errs.Unavailable) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		at.Store(0)
		must(t, restore(t.Context(), conn, j, transfer.Options{}, 2, 100))
	}
}

func referencesOf(ctx context.Context, d *transfer.Downloader, j job.Job) (*repo.References, error) {
	object, err := d.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := repo.DecodeSnapshot(object)
	if err != nil {
		return nil, err
	}
	return parts.OpenReferences(j.Grant.RefsKey)
}

func TestWhatIsMissingIsToldWithoutBeingRead(t *testing.T) {
	c, conn, j := stored(t)
	gone := seal.NewNamer(j.Grant.NameKey).Name(seal.KindRowsText, rows(1, 57))
	c.Change(gone, func([]byte) []byte { return nil })
	must(t, transfer.WithDownloader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, d *transfer.Downloader) error {
		refs, err := referencesOf(ctx, d, j)
		must(t, err)
		// Which list holds the chunk is not said: the two tables, and a list cut
		// by content from either, end in any order.
		var missing []string
		for i := range uint32(len(refs.Lists)) {
			all, err := d.Missing(ctx, i)
			must(t, err)
			plain, err := d.List(ctx, i) // the same stream goes on
			must(t, err)
			entries, err := repo.DecodeList(plain)
			must(t, err)
			for _, at := range all {
				if entries[at].Name == gone {
					missing = append(missing, fmt.Sprint("list ", i))
				}
			}
		}
		if len(missing) != 1 {
			t.Errorf("missing in %v, want one chunk", missing)
		}
		if d.Fetched() > 64<<10 {
			t.Errorf("%d bytes were fetched", d.Fetched())
		}
		return nil
	}))
}
