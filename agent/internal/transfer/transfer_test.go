package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/agent/internal/transfer/transfertest"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func newController(t testing.TB) *transfertest.Controller {
	t.Helper()
	c, err := transfertest.New(t.Context(), chunk.DefaultParams)
	must(t, err)
	return c
}

func serve(t testing.TB, c *transfertest.Controller) *grpc.ClientConn {
	t.Helper()
	conn, stop, err := c.Serve()
	must(t, err)
	t.Cleanup(stop)
	return conn
}

// rows gives the plaintext of one chunk, different for each pair.
func rows(table, i int) []byte {
	var b []byte
	for j := range 300 + i%100 {
		b = fmt.Appendf(b, "%d\t%d\tcustomer %d of table %d\t%x\n", i, j, i*1000+j, table, uint64(i*7919+j+table)*0x9e3779b97f4a7c15)
	}
	return b
}

// putter is a backup's worker.
type putter struct {
	u     *transfer.Uploader
	s     *transfer.Stream
	namer *seal.Namer
}

func newPutter(ctx context.Context, u *transfer.Uploader, j job.Job) (*putter, error) {
	s, err := u.Stream(ctx)
	return &putter{u, s, seal.NewNamer(j.Grant.NameKey)}, err
}

func (p *putter) put(ctx context.Context, kind seal.Kind, plain []byte) (seal.Name, error) {
	b, err := p.u.Buffer(ctx)
	if err != nil {
		return seal.Name{}, err
	}
	b = append(b, plain...)
	name := p.namer.Name(kind, b)
	return name, p.s.Put(ctx, kind, name, b)
}

// backup uploads tables of chunks chunks each, one stream a table, and commits.
func backup(ctx context.Context, conn grpc.ClientConnInterface, j job.Job, o transfer.Options, tables, chunks int) (stats transfer.Stats, err error) {
	err = transfer.WithUploader(ctx, conn, j, o, func(ctx context.Context, u *transfer.Uploader) error {
		defer func() { stats = u.Stats() }()
		builder := repo.NewListBuilder()
		db := builder.Database()
		var wg sync.WaitGroup
		failed := make([]error, tables)
		runs := make([]*repo.RunLists, tables)
		for i := range tables {
			runs[i] = db.Run(repo.RunOrder{Object: uint32(i)})
		}
		for i := range tables {
			wg.Go(func() { failed[i] = table(ctx, u, j, runs[i], i, chunks) })
		}
		wg.Wait()
		if err := errors.Join(failed...); err != nil {
			return err
		}
		p, err := newPutter(ctx, u, j)
		if err != nil {
			return err
		}
		if err := db.Finish(ctx, p.putList); err != nil {
			return err
		}
		m, err := manifest(j, builder.References(), runs)
		if err != nil {
			return err
		}
		return u.Commit(ctx, m)
	})
	return stats, err
}

func (p *putter) putList(ctx context.Context, plain []byte) (seal.Name, error) {
	name := p.namer.Name(seal.KindList, plain)
	return name, p.s.PutCopy(ctx, seal.KindList, name, plain)
}

func table(ctx context.Context, u *transfer.Uploader, j job.Job, run *repo.RunLists, n, chunks int) error {
	p, err := newPutter(ctx, u, j)
	if err != nil {
		return err
	}
	for i := range chunks {
		plain := rows(n, i)
		name, err := p.put(ctx, seal.KindRowsText, plain)
		if err != nil {
			return err
		}
		if err := run.Add(ctx, repo.ListEntry{Kind: seal.KindRowsText, Name: name, Length: uint32(len(plain)), Rows: 1}, p.putList); err != nil {
			return err
		}
	}
	return run.End(ctx, p.putList)
}

// manifest seals the parts. The content is only the streams: the controller of
// these tests does not look at it.
func manifest(j job.Job, refs *repo.References, runs []*repo.RunLists) (transfer.Manifest, error) {
	references, err := repo.SealReferences(refs, j.Grant.RefsKey, j.Grant.Domain, j.ID)
	if err != nil {
		return transfer.Manifest{}, err
	}
	c := &repo.Content{Kind: repo.KindLogical, Logical: &repo.Logical{Databases: []repo.Database{{Name: "app"}}}}
	for i, r := range runs {
		c.Logical.Databases[0].Tables = append(c.Logical.Databases[0].Tables, repo.Table{OID: uint32(i), Runs: []repo.Run{{Stream: r.Stream()}}})
	}
	content, err := repo.SealContent(c, j.Grant.SealKeys[j.Grant.NewestEpoch], j.Grant.Domain, j.ID)
	return transfer.Manifest{References: references, Content: content, Complete: true, SealEpoch: j.Grant.NewestEpoch}, err
}

// restore downloads all tables at once and compares them with their source.
func restore(ctx context.Context, conn grpc.ClientConnInterface, j job.Job, o transfer.Options, tables, chunks int) error {
	return transfer.WithDownloader(ctx, conn, j, o, func(ctx context.Context, d *transfer.Downloader) error {
		streams, err := streamsOf(ctx, d, j)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		failed := make([]error, tables)
		for i := range tables {
			wg.Go(func() { failed[i] = compare(ctx, d, streams[i], i, chunks) })
		}
		wg.Wait()
		return errors.Join(failed...)
	})
}

func streamsOf(ctx context.Context, d *transfer.Downloader, j job.Job) ([][]repo.Span, error) {
	object, err := d.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	s, err := repo.DecodeSnapshot(object)
	if err != nil {
		return nil, err
	}
	c, err := repo.OpenContent(s.Content, j.Grant.SealKeys[s.Header.SealEpoch], s.Header.Domain, s.Header.Job)
	if err != nil {
		return nil, err
	}
	var streams [][]repo.Span
	for _, t := range c.Logical.Databases[0].Tables {
		streams = append(streams, t.Runs[0].Stream.Spans)
	}
	return streams, nil
}

func compare(ctx context.Context, d *transfer.Downloader, spans []repo.Span, table, chunks int) error {
	i := 0
	for c, err := range d.Stream(ctx, spans) {
		if err != nil {
			return err
		}
		if !bytes.Equal(c.Plain, rows(table, i)) {
			return fmt.Errorf("chunk %d of table %d differs", i, table)
		}
		i++
	}
	if i != chunks {
		return fmt.Errorf("%d chunks of table %d, want %d", i, table, chunks)
	}
	return nil
}

func TestWhatIsUploadedComesBackInOrder(t *testing.T) {
	c := newController(t)
	conn := serve(t, c)
	id := repo.NewID()
	stats, err := backup(t.Context(), conn, c.Backup(id, 1), transfer.Options{}, 6, 300)
	must(t, err)
	if stats.Chunks < 1800 || stats.NewChunks != stats.DurableChunks || int(stats.NewChunks) != c.Chunks() || stats.SentBytes >= stats.PlainBytes {
		t.Fatalf("stats %+v with %d chunks stored", stats, c.Chunks())
	}
	r, err := c.Restore(id)
	must(t, err)
	must(t, restore(t.Context(), conn, r, transfer.Options{}, 6, 300))
	// Fewer streams than readers, and as little memory as there may be.
	must(t, restore(t.Context(), conn, r, transfer.Options{Streams: 2, Memory: 1, Workers: 1}, 6, 300))

	again, err := backup(t.Context(), conn, c.Backup(repo.NewID(), 2), transfer.Options{Memory: 24 << 20, Workers: 1}, 6, 300)
	must(t, err)
	if again.NewChunks != 0 || again.SentBytes != 0 {
		t.Fatalf("the second backup sent %+v", again)
	}
}

func TestAChunkThatOccursOftenIsSentOnce(t *testing.T) {
	c := newController(t)
	conn := serve(t, c)
	j := c.Backup(repo.NewID(), 1)
	var name seal.Name
	err := transfer.WithUploader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, u *transfer.Uploader) error {
		var wg sync.WaitGroup
		failed := make([]error, 4)
		for i := range failed {
			wg.Go(func() {
				p, err := newPutter(ctx, u, j)
				for range 100 {
					if err == nil {
						_, err = p.put(ctx, seal.KindRowsText, rows(0, 0))
					}
				}
				failed[i] = err
			})
		}
		wg.Wait()
		name = seal.NewNamer(j.Grant.NameKey).Name(seal.KindRowsText, rows(0, 0))
		return errors.Join(failed...)
	})
	must(t, err)
	if n := c.Received(name); n != 1 {
		t.Fatalf("received %d times", n)
	}
}

func TestAFailureCarriesTheControllersWords(t *testing.T) {
	c := newController(t)
	c.SetHook(func(n int, _ any) error {
		if n == 50 {
			return fmt.Errorf("put pack 1234: bucket tusk is full: %w", errs.Exhausted)
		}
		return nil
	})
	conn := serve(t, c)
	_, err := backup(t.Context(), conn, c.Backup(repo.NewID(), 1), transfer.Options{Memory: 16 << 20}, 4, 400)
	if !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "bucket tusk is full") {
		t.Fatalf("got %v", err)
	}
}

func TestTheCallersFailureAndCauseComeBack(t *testing.T) {
	c := newController(t)
	conn := serve(t, c)
	own := errors.New("COPY broke off")
	j := c.Backup(repo.NewID(), 1)
	err := transfer.WithUploader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, u *transfer.Uploader) error {
		p, err := newPutter(ctx, u, j)
		if err == nil {
			_, err = p.put(ctx, seal.KindRowsText, rows(0, 0))
		}
		return errors.Join(err, own)
	})
	if !errors.Is(err, own) {
		t.Fatalf("got %v", err)
	}
	lost := fmt.Errorf("lease lost: %w", errs.Canceled)
	ctx, cancel := context.WithCancelCause(t.Context())
	c.SetHook(func(n int, _ any) error {
		if n == 60 {
			cancel(lost)
		}
		return nil
	})
	if _, err = backup(ctx, conn, c.Backup(repo.NewID(), 2), transfer.Options{}, 4, 400); !errors.Is(err, lost) {
		t.Fatalf("got %v", err)
	}
}

func TestARetrySendsNothingThatWasAcknowledged(t *testing.T) {
	for seed := range 15 {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			c := newController(t)
			cut := 5 + seed*seed*3
			c.SetHook(func(n int, _ any) error {
				if n == cut {
					return fmt.Errorf("the line is cut: %w", errs.Unavailable)
				}
				return nil
			})
			conn := serve(t, c)
			id := repo.NewID()
			_, err := backupWithFlushes(t, conn, c.Backup(id, 1), 120)
			if err != nil && !errors.Is(err, errs.Unavailable) {
				t.Fatal(err)
			}
			c.SetHook(nil)
			before := c.Chunks()
			stats, err := backupWithFlushes(t, conn, c.Backup(id, 2), 120)
			must(t, err)
			if want := int64(120 - before); stats.NewChunks != want {
				t.Fatalf("%d chunks sent again, %d were stored already", stats.NewChunks, before)
			}
		})
	}
}

func backupWithFlushes(t *testing.T, conn grpc.ClientConnInterface, j job.Job, chunks int) (stats transfer.Stats, err error) {
	err = transfer.WithUploader(t.Context(), conn, j, transfer.Options{}, func(ctx context.Context, u *transfer.Uploader) error {
		defer func() { stats = u.Stats() }()
		p, err := newPutter(ctx, u, j)
		for i := 0; i < chunks && err == nil; i++ {
			if _, err = p.put(ctx, seal.KindRowsText, rows(1, i)); err == nil && i%10 == 9 {
				err = p.s.Flush(ctx)
			}
		}
		if err == nil && !u.Idle() {
			t.Error("buffers are out after a flush")
		}
		return err
	})
	return stats, err
}

func TestATightWindowIsKept(t *testing.T) {
	c := newController(t)
	c.Window = 1<<20 + 4096
	conn := serve(t, c)
	must1 := func(_ transfer.Stats, err error) { must(t, err) }
	must1(backup(t.Context(), conn, c.Backup(repo.NewID(), 1), transfer.Options{}, 3, 300))
	c.Window = 1000
	if _, err := backup(t.Context(), conn, c.Backup(repo.NewID(), 2), transfer.Options{}, 1, 1); !errors.Is(err, errs.Unsupported) {
		t.Fatalf("got %v", err)
	}
}

func TestTooManyStreamsForTheMemoryAreRefused(t *testing.T) {
	c := newController(t)
	conn := serve(t, c)
	err := transfer.WithUploader(t.Context(), conn, c.Backup(repo.NewID(), 1), transfer.Options{Memory: 1}, func(ctx context.Context, u *transfer.Uploader) error {
		for {
			if _, err := u.Stream(ctx); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, errs.Invalid) {
		t.Fatalf("got %v", err)
	}
}
