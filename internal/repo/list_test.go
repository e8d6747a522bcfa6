package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

var compareFingerprints = cmp.AllowUnexported(repo.Fingerprint{})

// entry makes the i-th chunk of a stream; its name never ends a list unless ends.
func entry(stream, i int, ends bool) repo.ListEntry {
	e := repo.ListEntry{Kind: seal.KindRowsText, Length: uint32(1000 + i), Rows: uint32(i%7 + 1)}
	e.Name = sha256.Sum256(fmt.Appendf(nil, "%d/%d", stream, i))
	e.Fingerprint.Add(chunk.HashRow(e.Name[:]))
	binary.BigEndian.PutUint16(e.Name[:2], 0x1234)
	if ends {
		binary.BigEndian.PutUint16(e.Name[:2], 0xfe00) // the low nine bits decide
	}
	return e
}

func entries(stream, n int) []repo.ListEntry {
	list := make([]repo.ListEntry, n)
	for i := range list {
		list[i] = entry(stream, i, false)
	}
	return list
}

func TestListsAndReferencesReadBack(t *testing.T) {
	want := entries(1, 3)
	want = append(want,
		repo.ListEntry{Kind: seal.KindRowPart, First: true, Length: 1 << 20, Name: seal.Name{1}},
		repo.ListEntry{Kind: seal.KindRowPart, Last: true, Length: 5, Rows: 1, Name: seal.Name{2}},
		repo.ListEntry{Kind: seal.KindArchive, Length: 9, Name: seal.Name{3}})
	plain, err := repo.EncodeList(want)
	if err != nil || len(plain) != 8+58*len(want) {
		t.Fatalf("%d bytes, %v", len(plain), err)
	}
	got, err := repo.DecodeList(plain)
	if diff := cmp.Diff(want, got, compareFingerprints); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, refs := range []*repo.References{
		{Lists: []repo.ListRef{}},
		{Lists: []repo.ListRef{{Name: seal.Name{1}, Entries: 8192, Bytes: 8192}, {Name: seal.Name{2}, Entries: 1, Bytes: 1<<32 - 1}}, Chunks: 8193, Bytes: 8192 + 1<<32 - 1},
	} {
		plain, err := repo.EncodeReferences(refs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := repo.DecodeReferences(plain)
		if diff := cmp.Diff(refs, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	}
}

func TestEntriesThatCannotBeAreRefused(t *testing.T) {
	good := repo.ListEntry{Kind: seal.KindRowsText, Length: 10, Rows: 2}
	for what, change := range map[string]func(*repo.ListEntry){
		"kind 0":                   func(e *repo.ListEntry) { e.Kind = 0 },
		"a list in a list":         func(e *repo.ListEntry) { e.Kind = seal.KindList },
		"unknown kind":             func(e *repo.ListEntry) { e.Kind = 9 },
		"no bytes":                 func(e *repo.ListEntry) { e.Length, e.Rows = 0, 0 },
		"more rows than bytes":     func(e *repo.ListEntry) { e.Rows = 11 },
		"part of a row among rows": func(e *repo.ListEntry) { e.First = true },
		"middle part with a row":   func(e *repo.ListEntry) { e.Kind, e.Rows = seal.KindRowPart, 1 },
		"last part with two rows":  func(e *repo.ListEntry) { e.Kind, e.Last = seal.KindRowPart, true },
		"fingerprint of no rows": func(e *repo.ListEntry) {
			e.Rows = 0
			e.Fingerprint.Add(chunk.HashRow([]byte("x")))
		},
	} {
		e := good
		change(&e)
		_, err := repo.EncodeList([]repo.ListEntry{good, e})
		wantKind(t, what, err, errs.Invalid)
		wantWords(t, err, "entry 1")
	}
	for _, n := range []int{0, repo.MaxListEntries + 1} {
		_, err := repo.EncodeList(entries(1, n))
		wantKind(t, fmt.Sprint(n, " entries"), err, errs.Invalid)
	}
}

func TestReferencesThatCannotBeAreRefused(t *testing.T) {
	for what, r := range map[string]*repo.References{
		"empty list":       {Lists: []repo.ListRef{{}}},
		"long list":        {Lists: []repo.ListRef{{Entries: 8193, Bytes: 8193}}, Chunks: 8193, Bytes: 8193},
		"negative bytes":   {Lists: []repo.ListRef{{Entries: 1, Bytes: -1}}, Chunks: 1, Bytes: -1},
		"too few bytes":    {Lists: []repo.ListRef{{Entries: 2, Bytes: 1}}, Chunks: 2, Bytes: 1},
		"impossible bytes": {Lists: []repo.ListRef{{Entries: 1, Bytes: 1 << 32}}, Chunks: 1, Bytes: 1 << 32},
		"wrong chunks":     {Lists: []repo.ListRef{{Entries: 1, Bytes: 1}}, Chunks: 2, Bytes: 1},
		"wrong bytes":      {Lists: []repo.ListRef{{Entries: 1, Bytes: 1}}, Chunks: 1, Bytes: 2},
	} {
		_, err := repo.EncodeReferences(r)
		wantKind(t, what, err, errs.Invalid)
	}
}

// lists keeps what a ListBuilder puts.
type lists struct {
	mu    sync.Mutex
	plain map[seal.Name][]byte
}

func (l *lists) put(_ context.Context, plain []byte) (seal.Name, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := seal.Name(sha256.Sum256(plain))
	if l.plain == nil {
		l.plain = map[seal.Name][]byte{}
	}
	l.plain[name] = plain
	return name, nil
}

// read follows a stream through references and lists.
func (l *lists) read(t *testing.T, refs *repo.References, s repo.Stream) []repo.ListEntry {
	t.Helper()
	var got []repo.ListEntry
	var bytes int64
	for _, span := range s.Spans {
		ref := refs.Lists[span.List]
		list, err := repo.DecodeList(l.plain[ref.Name])
		if err != nil || len(list) != int(ref.Entries) {
			t.Fatalf("list %d: %d entries, want %d, %v", span.List, len(list), ref.Entries, err)
		}
		got = append(got, list[span.First:span.First+span.Count]...)
	}
	for _, e := range got {
		bytes += int64(e.Length)
	}
	if bytes != s.Bytes {
		t.Errorf("stream of %d bytes, its entries have %d", s.Bytes, bytes)
	}
	return got
}

func build(t *testing.T, l *lists, b *repo.ListBuilder, runs map[repo.RunOrder][]repo.ListEntry) map[repo.RunOrder]*repo.RunLists {
	t.Helper()
	d := b.Database()
	made := map[repo.RunOrder]*repo.RunLists{}
	for order, es := range runs { // in random order, as workers finish
		r := d.Run(order)
		for _, e := range es {
			if err := r.Add(t.Context(), e, l.put); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.End(t.Context(), l.put); err != nil {
			t.Fatal(err)
		}
		made[order] = r
	}
	if err := d.Finish(t.Context(), l.put); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestEveryRunIsFoundAgainThroughItsSpans(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		l, b := &lists{}, repo.NewListBuilder()
		type database struct {
			runs map[repo.RunOrder][]repo.ListEntry
			made map[repo.RunOrder]*repo.RunLists
		}
		var databases []database
		for db := range 3 {
			runs := map[repo.RunOrder][]repo.ListEntry{}
			for i := range rng.IntN(60) {
				n := []int{0, 1, 5, 63, 64, 65, 200}[rng.IntN(7)]
				if rng.IntN(50) == 0 {
					n = 9000
				}
				es := entries(db*1000+i, n)
				for j := range es {
					if rng.IntN(100) == 0 {
						es[j] = entry(db*1000+i, j, true)
					}
				}
				runs[repo.RunOrder{Object: uint32(rng.IntN(1e9)), Part: uint32(i)}] = es
			}
			databases = append(databases, database{runs, build(t, l, b, runs)})
		}
		refs := b.References()
		if _, err := repo.EncodeReferences(refs); err != nil {
			t.Fatal(err)
		}
		var chunks int64
		for _, d := range databases {
			for order, want := range d.runs {
				got := l.read(t, refs, d.made[order].Stream())
				if !slices.Equal(want, got) {
					t.Fatalf("run %v: %d entries read back differ from the %d written", order, len(got), len(want))
				}
				chunks += int64(len(want))
			}
		}
		if refs.Chunks != chunks {
			t.Errorf("references have %d chunks, the runs %d", refs.Chunks, chunks)
		}
	}
}

func TestSmallRunsShareListsAndLongOnesDoNot(t *testing.T) {
	l, b := &lists{}, repo.NewListBuilder()
	runs := map[repo.RunOrder][]repo.ListEntry{
		{Object: 0}: entries(1, 1), {Object: 20, Part: 1}: entries(3, 63), {Object: 20, Part: 0}: entries(2, 2),
		{Object: 30}: entries(4, 64), {Object: 40}: nil,
	}
	made := build(t, l, b, runs)
	want := map[repo.RunOrder][]repo.Span{
		{Object: 30}:          {{List: 0, First: 0, Count: 64}},
		{Object: 0}:           {{List: 1, First: 0, Count: 1}},
		{Object: 20, Part: 0}: {{List: 1, First: 1, Count: 2}},
		{Object: 20, Part: 1}: {{List: 1, First: 3, Count: 63}},
		{Object: 40}:          {},
	}
	for order, spans := range want {
		if diff := cmp.Diff(spans, made[order].Stream().Spans); diff != "" {
			t.Errorf("run %v: %s", order, diff)
		}
	}
	if refs := b.References(); len(refs.Lists) != 2 || refs.Chunks != 130 {
		t.Errorf("%d lists, %d chunks", len(refs.Lists), refs.Chunks)
	}
	r := made[repo.RunOrder{Object: 20, Part: 1}]
	var rows int64
	var sum repo.Fingerprint
	for _, e := range entries(3, 63) {
		rows += int64(e.Rows)
		sum.Merge(e.Fingerprint)
	}
	if r.Rows() != rows || r.Fingerprint() != sum {
		t.Errorf("%d rows, want %d", r.Rows(), rows)
	}
}

func TestContentEndsAListOnceItHasEnoughEntries(t *testing.T) {
	for what, c := range map[string]struct {
		n    int
		ends []int // entries whose names end a list
		want []uint32
	}{
		"never below 64 entries":        {100, []int{10, 62}, []uint32{100}},
		"at the 64th":                   {100, []int{63}, []uint32{64, 36}},
		"later, and again":              {400, []int{99, 120, 200}, []uint32{100, 101, 199}},
		"at 8192 whatever the names":    {8200, nil, []uint32{8192, 8}},
		"a list that ends with the run": {64, []int{63}, []uint32{64}},
	} {
		es := entries(1, c.n)
		for _, i := range c.ends {
			es[i] = entry(1, i, true)
		}
		b := repo.NewListBuilder()
		build(t, &lists{}, b, map[repo.RunOrder][]repo.ListEntry{{Object: 1}: es})
		var got []uint32
		for _, l := range b.References().Lists {
			got = append(got, l.Entries)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func TestAChangeInTheMiddleLeavesOtherListsEqual(t *testing.T) {
	// The reason for ends by content: a few new chunks must not rename all lists.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	before := make([]repo.ListEntry, 40000)
	for i := range before {
		before[i] = entry(1, i, rng.IntN(512) == 0)
	}
	after := append(append(append([]repo.ListEntry(nil), before[:20000]...), entries(2, 3)...), before[20001:]...)
	names := func(es []repo.ListEntry) map[seal.Name]bool {
		b := repo.NewListBuilder()
		build(t, &lists{}, b, map[repo.RunOrder][]repo.ListEntry{{Object: 1}: es})
		m := map[seal.Name]bool{}
		for _, l := range b.References().Lists {
			m[l.Name] = true
		}
		return m
	}
	a, c := names(before), names(after)
	changed := 0
	for n := range c {
		if !a[n] {
			changed++
		}
	}
	if len(c) < 30 || changed > 3 {
		t.Errorf("%d of %d lists changed", changed, len(c))
	}
}

func TestDiscardedRunsAndUnfinishedDatabasesLeaveNoTrace(t *testing.T) {
	l, b := &lists{}, repo.NewListBuilder()
	dead := b.Database()
	r := dead.Run(repo.RunOrder{Object: 1})
	for _, e := range entries(1, 9000) {
		if err := r.Add(t.Context(), e, l.put); err != nil {
			t.Fatal(err)
		}
	}
	d := b.Database()
	for _, n := range []int{10, 9000} {
		retried := d.Run(repo.RunOrder{Object: 1})
		for _, e := range entries(2, n) {
			if err := retried.Add(t.Context(), e, l.put); err != nil {
				t.Fatal(err)
			}
		}
		retried.Discard()
	}
	last := d.Run(repo.RunOrder{Object: 1})
	if err := last.Add(t.Context(), entry(3, 0, false), l.put); err != nil {
		t.Fatal(err)
	}
	if err := last.End(t.Context(), l.put); err != nil {
		t.Fatal(err)
	}
	if err := d.Finish(t.Context(), l.put); err != nil {
		t.Fatal(err)
	}
	if refs := b.References(); refs.Chunks != 1 || len(refs.Lists) != 1 {
		t.Errorf("%d chunks in %d lists", refs.Chunks, len(refs.Lists))
	}
}

func TestFinishRefusesWhatIsNotReady(t *testing.T) {
	b := repo.NewListBuilder()
	d := b.Database()
	d.Run(repo.RunOrder{Object: 7})
	err := d.Finish(t.Context(), (&lists{}).put)
	wantKind(t, "a run that has not ended", err, errs.Invalid)
	wantWords(t, err, "run 7.0")
	d = b.Database()
	for range 2 {
		if err := d.Run(repo.RunOrder{Object: 7}).End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, "two runs of one order", d.Finish(t.Context(), (&lists{}).put), errs.Invalid)
	errPut := errors.New("no store")
	d = b.Database()
	r := d.Run(repo.RunOrder{})
	if err := errors.Join(r.Add(t.Context(), entry(1, 1, false), nil), r.End(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	err = d.Finish(t.Context(), func(context.Context, []byte) (seal.Name, error) { return seal.Name{}, errPut })
	if !errors.Is(err, errPut) {
		t.Errorf("got %v", err)
	}
	if refs := b.References(); len(refs.Lists) != 0 {
		t.Errorf("%d lists of databases that failed", len(refs.Lists))
	}
}

func FuzzDecodeList(f *testing.F) {
	good, err := repo.EncodeList(entries(1, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("TVL1\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := repo.DecodeList(b)
		if err != nil {
			wantKind(t, "decode", err, errs.Corrupt)
			return
		}
		again, err := repo.EncodeList(list)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("encodes to other bytes, %v", err)
		}
	})
}

func FuzzDecodeReferences(f *testing.F) {
	good, err := repo.EncodeReferences(&repo.References{Lists: []repo.ListRef{{Entries: 1, Bytes: 9}}, Chunks: 1, Bytes: 9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("TVR1\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, err := repo.DecodeReferences(b)
		if err != nil {
			if !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
				t.Error(err)
			}
			return
		}
		again, err := repo.EncodeReferences(refs)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("encodes to other bytes, %v", err)
		}
	})
}
