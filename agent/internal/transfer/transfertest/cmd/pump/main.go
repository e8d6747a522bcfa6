// Command pump moves made-up rows to a controller or back, as an agent would,
// without PostgreSQL. Tests and benchmarks of the controller run it, since the
// two programs' insides cannot be linked into one. It reads an Order as JSON on
// its standard input and writes a Report on its standard output.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Order says what to move.
type Order struct {
	Address  string // of the controller
	Identity string // file
	Job      string
	Epoch    uint64
	Counter  uint64
	Domain   string
	Name     string // keys, hex
	Cut      string
	Refs     string
	Seal     string
	SealKey  uint32 // epoch of Seal
	Restore  bool
	Tables   int
	Rows     int // of each table
	Seed     int
	Memory   int64
}

// Report says how it went.
type Report struct {
	Stats    transfer.Stats
	Seconds  float64
	Mallocs  uint64
	Bytes    uint64 // allocated
	HeapPeak uint64 // of the system's memory held for the heap
	Fetched  int64
}

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	var o Order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	j, err := o.job()
	if err != nil {
		return err
	}
	identity, err := pki.LoadIdentity(o.Identity)
	if err != nil {
		return err
	}
	config, err := identity.ClientTLS()
	if err != nil {
		return err
	}
	conn, err := rpc.Dial(o.Address, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends
	var report Report
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	options := transfer.Options{Memory: o.Memory}
	if o.Restore {
		err = transfer.WithDownloader(ctx, conn, j, options, func(ctx context.Context, d *transfer.Downloader) error {
			err := o.restore(ctx, j, d)
			report.Fetched = d.Fetched()
			return err
		})
	} else {
		err = transfer.WithUploader(ctx, conn, j, options, func(ctx context.Context, u *transfer.Uploader) error {
			err := o.backup(ctx, j, u)
			report.Stats = u.Stats()
			return err
		})
	}
	report.Seconds = time.Since(began).Seconds()
	runtime.ReadMemStats(&after)
	report.Mallocs, report.Bytes, report.HeapPeak = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc, after.HeapSys
	return errors.Join(err, json.NewEncoder(out).Encode(report))
}

func (o *Order) job() (job.Job, error) {
	j := job.Job{Fence: repo.Fence{Epoch: o.Epoch, Counter: o.Counter}}
	j.Grant.Cut, j.Grant.NewestEpoch = chunk.DefaultParams, o.SealKey
	var key seal.Key
	for _, f := range []struct {
		dst  []byte
		text string
	}{{j.ID[:], o.Job}, {j.Grant.Domain[:], o.Domain}, {j.Grant.NameKey[:], o.Name}, {j.Grant.CutKey[:], o.Cut}, {j.Grant.RefsKey[:], o.Refs}, {key[:], o.Seal}} {
		if n, err := hex.Decode(f.dst, []byte(f.text)); err != nil || n != len(f.dst) {
			return j, fmt.Errorf("order: %q is not %d bytes in hex", f.text, len(f.dst))
		}
	}
	j.Grant.SealKeys = map[uint32]seal.Key{o.SealKey: key}
	return j, nil
}

// row appends row i of a table as COPY would send it: numbers, a time, a name,
// words and some noise, 150 bytes, about fourfold compressible. It is cheap, so
// that what is measured is not its own making.
func (o *Order) row(b []byte, table, i int) []byte {
	h := uint64(o.Seed*1_000_003+table*7919+i) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	b = strconv.AppendInt(b, int64(i), 10)
	b = append(b, '\t')
	b = strconv.AppendUint(b, h%100_000, 10)
	b = append(b, "\t2026-10-"...)
	b = strconv.AppendUint(b, 10+h>>16%20, 10)
	b = append(b, " 12:"...)
	b = strconv.AppendUint(b, 10+h>>24%50, 10)
	b = append(b, ":07."...)
	b = strconv.AppendUint(b, h>>3%1_000_000, 10)
	b = append(b, "+00\tcustomer-"...)
	b = strconv.AppendUint(b, h>>20%1_000_000, 10)
	b = append(b, "@example.org\t"...)
	b = strconv.AppendUint(b, h>>30%10_000, 10)
	b = append(b, ".50\tshipped to warehouse "...)
	b = strconv.AppendUint(b, h>>33%50, 10)
	b = append(b, " by the usual carrier\t{\"state\": \"open\", \"tries\": "...)
	b = strconv.AppendUint(b, h>>41%5, 10)
	b = append(b, "}\t"...)
	b = strconv.AppendUint(b, h>>32, 16)
	return append(b, '\n')
}

func (o *Order) backup(ctx context.Context, j job.Job, u *transfer.Uploader) error {
	builder := repo.NewListBuilder()
	db := builder.Database()
	runs := make([]*repo.RunLists, o.Tables+1)
	for i := range runs {
		runs[i] = db.Run(repo.RunOrder{Object: uint32(i)})
	}
	var wg sync.WaitGroup
	failed := make([]error, o.Tables)
	var last *worker
	for i := range o.Tables {
		w, err := newWorker(ctx, o, j, u)
		if err != nil {
			return err
		}
		last = w
		wg.Go(func() { failed[i] = w.table(ctx, runs[i+1], i) })
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if err := last.chunk(ctx, runs[0], seal.KindArchive, []byte("PGDMP"), 0, repo.Fingerprint{}); err != nil {
		return err
	}
	if err := runs[0].End(ctx, last.putList); err != nil {
		return err
	}
	if err := db.Finish(ctx, last.putList); err != nil {
		return err
	}
	references, err := repo.SealReferences(builder.References(), j.Grant.RefsKey, j.Grant.Domain, j.ID)
	if err != nil {
		return err
	}
	d := repo.Database{Name: "app", State: repo.DatabaseComplete, Archive: &repo.Archive{Stream: runs[0].Stream()}}
	for i, r := range runs[1:] {
		d.Tables = append(d.Tables, repo.Table{OID: uint32(i + 1), Schema: "public", Name: "t", Rows: r.Rows(), Fingerprint: r.Fingerprint(),
			Runs: []repo.Run{{Stream: r.Stream(), Rows: r.Rows(), Fingerprint: r.Fingerprint()}}})
	}
	content, err := repo.SealContent(&repo.Content{Kind: repo.KindLogical, Started: time.Now(), Finished: time.Now(), Logical: &repo.Logical{Databases: []repo.Database{d}}},
		j.Grant.SealKeys[j.Grant.NewestEpoch], j.Grant.Domain, j.ID)
	if err != nil {
		return err
	}
	return u.Commit(ctx, transfer.Manifest{References: references, Content: content, Complete: true, SealEpoch: j.Grant.NewestEpoch})
}

// worker uploads one table.
type worker struct {
	o      *Order
	u      *transfer.Uploader
	s      *transfer.Stream
	namer  *seal.Namer
	cutter *chunk.Cutter
}

func newWorker(ctx context.Context, o *Order, j job.Job, u *transfer.Uploader) (*worker, error) {
	s, err := u.Stream(ctx)
	if err != nil {
		return nil, err
	}
	cutter, err := chunk.NewCutter(j.Grant.CutKey, j.Grant.Cut)
	return &worker{o, u, s, seal.NewNamer(j.Grant.NameKey), cutter}, err
}

func (w *worker) table(ctx context.Context, run *repo.RunLists, n int) error {
	b, err := w.u.Buffer(ctx)
	if err != nil {
		return err
	}
	var rows uint32
	var sum repo.Fingerprint
	end := func() error {
		e := repo.ListEntry{Kind: seal.KindRowsText, Name: w.namer.Name(seal.KindRowsText, b), Length: uint32(len(b)), Rows: rows, Fingerprint: sum}
		rows, sum = 0, repo.Fingerprint{}
		if err := w.s.Put(ctx, e.Kind, e.Name, b); err != nil {
			return err
		}
		return run.Add(ctx, e, w.putList)
	}
	var row []byte
	for i := range w.o.Rows {
		row = w.o.row(row[:0], n, i)
		if w.cutter.Before(len(row), len(b)) {
			if err := end(); err != nil {
				return err
			}
			if b, err = w.u.Buffer(ctx); err != nil {
				return err
			}
		}
		b = append(b, row...)
		h := chunk.HashRow(row)
		sum.Add(h)
		rows++
		if w.cutter.After(h, len(row), len(b)) {
			if err := end(); err != nil {
				return err
			}
			if b, err = w.u.Buffer(ctx); err != nil {
				return err
			}
		}
	}
	if len(b) == 0 {
		w.u.Release(b)
	} else if err := end(); err != nil {
		return err
	}
	return run.End(ctx, w.putList)
}

func (w *worker) chunk(ctx context.Context, run *repo.RunLists, kind seal.Kind, plain []byte, rows uint32, sum repo.Fingerprint) error {
	name := w.namer.Name(kind, plain)
	if err := w.s.PutCopy(ctx, kind, name, plain); err != nil {
		return err
	}
	return run.Add(ctx, repo.ListEntry{Kind: kind, Name: name, Length: uint32(len(plain)), Rows: rows, Fingerprint: sum}, w.putList)
}

func (w *worker) putList(ctx context.Context, plain []byte) (seal.Name, error) {
	name := w.namer.Name(seal.KindList, plain)
	return name, w.s.PutCopy(ctx, seal.KindList, name, plain)
}

func (o *Order) restore(ctx context.Context, j job.Job, d *transfer.Downloader) error {
	object, err := d.Snapshot(ctx)
	if err != nil {
		return err
	}
	s, err := repo.DecodeSnapshot(object)
	if err != nil {
		return err
	}
	c, err := repo.OpenContent(s.Content, j.Grant.SealKeys[s.Header.SealEpoch], s.Header.Domain, s.Header.Job)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	tables := c.Logical.Databases[0].Tables
	failed := make([]error, len(tables))
	for i := range tables {
		wg.Go(func() { failed[i] = o.compare(ctx, d, i, tables[i].Runs[0].Stream.Spans) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

func (o *Order) compare(ctx context.Context, d *transfer.Downloader, table int, spans []repo.Span) error {
	i := 0
	var want []byte
	for c, err := range d.Stream(ctx, spans) {
		if err != nil {
			return err
		}
		want = want[:0]
		for range c.Entry.Rows {
			want = o.row(want, table, i)
			i++
		}
		if !bytes.Equal(c.Plain, want) {
			return fmt.Errorf("table %d: rows up to %d differ", table, i)
		}
	}
	if i != o.Rows {
		return fmt.Errorf("table %d: %d rows, want %d", table, i, o.Rows)
	}
	return nil
}
