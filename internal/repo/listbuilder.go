package repo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// PutList names, seals and sends the plaintext of a list chunk (kind
// seal.KindList) and returns its name. It owns plain. The goroutine that calls a
// method taking a PutList is the one that calls it.
type PutList func(ctx context.Context, plain []byte) (seal.Name, error)

// RunOrder is the place of a run among the runs of its database. It decides
// where small runs stand in the shared lists, so it must depend on nothing that
// changes between backups: Object is an OID (0 for the schema archive, 2613 and
// 2995 for the data and the metadata of large objects), Part the number of the
// run within it.
type RunOrder struct {
	Object, Part uint32
}

func (o RunOrder) compare(p RunOrder) int {
	return cmp.Or(cmp.Compare(o.Object, p.Object), cmp.Compare(o.Part, p.Part))
}

// ListBuilder makes the chunk lists and the references part of one snapshot.
//
// A run's chunks go to lists of its own; a run that ends with fewer than
// MinListEntries and never filled a list shares lists with the other small runs
// of its database, in RunOrder. Where a list ends is decided by the names in it
// (ListEntry), so equal runs have equal lists in every snapshot.
//
// Lists are put while runs grow, but get their positions when their database is
// finished: what a database that failed has put so far is in no references part
// and is left to prune. A ListBuilder and a DatabaseLists may be used by several
// goroutines, a RunLists by one at a time. Memory is at most MaxListEntries
// entries (about 0.6 MiB) a growing run and 64 bytes a list.
type ListBuilder struct {
	mu   sync.Mutex
	refs References
}

// NewListBuilder makes one for one snapshot.
func NewListBuilder() *ListBuilder { return &ListBuilder{} }

// Database begins the lists of one database.
func (b *ListBuilder) Database() *DatabaseLists { return &DatabaseLists{builder: b} }

// References gives the references part of the databases finished so far.
func (b *ListBuilder) References() *References {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.refs
	r.Lists = slices.Clone(r.Lists)
	return &r
}

// add gives lists their positions, which are first, first+1, and so on.
func (b *ListBuilder) add(lists []ListRef) (first uint32, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	grown := b.refs
	grown.Lists = append(grown.Lists, lists...)
	for _, l := range lists {
		grown.Chunks += int64(l.Entries)
		grown.Bytes += l.Bytes
	}
	if err := grown.check(); err != nil {
		return 0, fmt.Errorf("add chunk lists: %w: %w", err, errs.Invalid)
	}
	first = uint32(len(b.refs.Lists))
	b.refs = grown
	return first, nil
}

// DatabaseLists makes the lists of one database.
type DatabaseLists struct {
	builder *ListBuilder

	mu       sync.Mutex
	runs     []*RunLists
	finished bool
}

// Run begins a run. Two runs of a database must not have the same order unless
// all but one are discarded.
func (d *DatabaseLists) Run(order RunOrder) *RunLists {
	r := &RunLists{order: order}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.finished {
		panic("repo: run after finish")
	}
	d.runs = append(d.runs, r)
	return r
}

// Finish puts the shared lists of the small runs and gives all lists of the
// database their positions; the Stream of each run is known then. Every run must
// have ended or been discarded. It is called once.
func (d *DatabaseLists) Finish(ctx context.Context, put PutList) error {
	runs, err := d.take()
	if err != nil {
		return err
	}
	var lists []ListRef
	for _, r := range runs {
		for i := range r.own {
			r.stream.Spans = append(r.stream.Spans, Span{List: uint32(len(lists)), Count: r.own[i].Entries})
			lists = append(lists, r.own[i])
		}
	}
	shared := collector{put: put}
	for _, r := range runs {
		for _, e := range r.pending {
			r.extend(uint32(len(lists)+len(shared.lists)), uint32(len(shared.entries)))
			if err := shared.add(ctx, e); err != nil {
				return fmt.Errorf("finish chunk lists: %w", err)
			}
		}
		r.pending = nil
	}
	if err := shared.flush(ctx); err != nil {
		return fmt.Errorf("finish chunk lists: %w", err)
	}
	first, err := d.builder.add(append(lists, shared.lists...))
	if err != nil {
		return err
	}
	for _, r := range runs {
		for i := range r.stream.Spans {
			r.stream.Spans[i].List += first
		}
		r.state = runPlaced
	}
	return nil
}

// take marks the database as finished and gives its runs in order.
func (d *DatabaseLists) take() ([]*RunLists, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.finished {
		panic("repo: second finish of a database's chunk lists")
	}
	d.finished = true
	runs := slices.DeleteFunc(d.runs, func(r *RunLists) bool { return r.state == runDiscarded })
	slices.SortStableFunc(runs, func(a, b *RunLists) int { return a.order.compare(b.order) })
	for i, r := range runs {
		if r.state != runEnded {
			return nil, fmt.Errorf("finish chunk lists: run %d.%d has not ended: %w", r.order.Object, r.order.Part, errs.Invalid)
		}
		if i > 0 && r.order == runs[i-1].order {
			return nil, fmt.Errorf("finish chunk lists: two runs %d.%d: %w", r.order.Object, r.order.Part, errs.Invalid)
		}
	}
	return runs, nil
}

type runState byte

const (
	runGrowing runState = iota
	runEnded
	runDiscarded
	runPlaced
)

// RunLists makes the lists of one run.
type RunLists struct {
	order   RunOrder
	state   runState
	grow    collector
	own     []ListRef   // lists of its own, when it is long
	pending []ListEntry // its entries, when it is small
	stream  Stream
	rows    int64
	sum     Fingerprint
}

// Add takes the next chunk of the run; it may put a list.
func (r *RunLists) Add(ctx context.Context, e ListEntry, put PutList) error {
	if r.state != runGrowing {
		panic("repo: chunk after the end of its run")
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("add chunk to list: %w: %w", err, errs.Invalid)
	}
	r.stream.Bytes += int64(e.Length)
	r.rows += int64(e.Rows)
	r.sum.Merge(e.Fingerprint)
	r.grow.put = put
	if err := r.grow.add(ctx, e); err != nil {
		return fmt.Errorf("add chunk to list: %w", err)
	}
	return nil
}

// End says that the run is complete; it may put a list.
func (r *RunLists) End(ctx context.Context, put PutList) error {
	if r.state != runGrowing {
		panic("repo: second end of a run")
	}
	if len(r.grow.lists) == 0 && len(r.grow.entries) < MinListEntries {
		// Clipped, since thousands of small runs wait for the end of their database.
		r.pending = slices.Clone(r.grow.entries)
	} else {
		r.grow.put = put
		if err := r.grow.flush(ctx); err != nil {
			return fmt.Errorf("end chunk list: %w", err)
		}
		r.own = r.grow.lists
	}
	r.grow = collector{}
	r.state = runEnded
	return nil
}

// Discard drops the run: what it put is in no references part. It may be called
// before or after End, not after the database's Finish.
func (r *RunLists) Discard() {
	if r.state == runPlaced {
		panic("repo: run discarded after its database was finished")
	}
	*r = RunLists{order: r.order, state: runDiscarded}
}

// Rows is the number of rows added so far.
func (r *RunLists) Rows() int64 { return r.rows }

// Fingerprint is that of the rows added so far.
func (r *RunLists) Fingerprint() Fingerprint { return r.sum }

// Stream tells where the run's chunks are. It is known once the database is
// finished.
func (r *RunLists) Stream() Stream {
	if r.state != runPlaced {
		panic("repo: stream of a run before its database was finished")
	}
	s := r.stream
	s.Spans = slices.Clone(s.Spans)
	if s.Spans == nil {
		s.Spans = []Span{} // an empty list in JSON, never null
	}
	return s
}

// extend takes entry i of a list into the run's spans.
func (r *RunLists) extend(list, i uint32) {
	if n := len(r.stream.Spans); n > 0 && r.stream.Spans[n-1].List == list {
		r.stream.Spans[n-1].Count++
		return
	}
	r.stream.Spans = append(r.stream.Spans, Span{List: list, First: i, Count: 1})
}

// collector gathers entries and puts a list where one ends.
type collector struct {
	put     PutList
	entries []ListEntry
	lists   []ListRef
}

func (c *collector) add(ctx context.Context, e ListEntry) error {
	c.entries = append(c.entries, e)
	if !e.endsList(len(c.entries)) {
		return nil
	}
	return c.flush(ctx)
}

func (c *collector) flush(ctx context.Context) error {
	if len(c.entries) == 0 {
		return nil
	}
	plain, err := EncodeList(c.entries)
	if err != nil {
		return err
	}
	name, err := c.put(ctx, plain)
	if err != nil {
		return fmt.Errorf("put chunk list: %w", err)
	}
	c.lists = append(c.lists, ListRef{Name: name, Entries: uint32(len(c.entries)), Bytes: sumLengths(c.entries)})
	c.entries = c.entries[:0]
	return nil
}
