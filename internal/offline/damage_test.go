package offline_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/offline"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// harms are what can happen to an object; other is another one of its kind, or
// itself. nil removes it.
var harms = []struct {
	name string
	harm func(b, other []byte) []byte
}{
	{"first byte flipped", func(b, _ []byte) []byte { b[0] ^= 0x10; return b }},
	{"byte 60 flipped", func(b, _ []byte) []byte { b[min(60, len(b)-1)] ^= 0x10; return b }},
	{"middle flipped", func(b, _ []byte) []byte { b[len(b)/2] ^= 0x10; return b }},
	{"near the end flipped", func(b, _ []byte) []byte { b[max(0, len(b)-60)] ^= 0x10; return b }},
	{"last byte flipped", func(b, _ []byte) []byte { b[len(b)-1] ^= 0x10; return b }},
	{"cut in half", func(b, _ []byte) []byte { return b[:len(b)/2] }},
	{"last byte cut", func(b, _ []byte) []byte { return b[:len(b)-1] }},
	{"byte added", func(b, _ []byte) []byte { return append(b, 0) }},
	{"emptied", func([]byte, []byte) []byte { return []byte{} }},
	{"zeroed", func(b, _ []byte) []byte { clear(b); return b }},
	{"removed", func([]byte, []byte) []byte { return nil }},
	{"replaced by another", func(_, other []byte) []byte { return other }},
	{"halves of two", func(b, other []byte) []byte { return append(b[:len(b)/2], other[len(other)/2:]...) }},
}

// TestNoChangeOfAnObjectRestoresWrongBytes changes every object in every way and
// restores everything: a snapshot comes back as it was, or the error has a kind;
// what was given out before the error is right.
func TestNoChangeOfAnObjectRestoresWrongBytes(t *testing.T) {
	w := newWorld(t)
	_, err := w.domain.BumpSealEpoch(t.Context())
	w.must(err)
	shared := w.rows(1, 20)
	tables := map[repo.JobID][]frame{}
	for i := range 2 {
		rows := slices.Concat(shared, w.rows(uint64(2+i), 10))
		job, list := w.snapshot(repo.NewID(), time.Now(), true, rows)
		tables[job] = rows
		if i == 0 {
			w.pack(append(rows, list)...)
		} else {
			w.pack(append(rows[20:], list)...)
		}
		w.index(0, w.packs[i])
	}
	before := map[string][]byte{}
	w.must(w.store.List(t.Context(), "", "", func(i blob.Info) error {
		b, err := blob.ReadAll(t.Context(), w.store, i.Key, 1<<30)
		before[i.Key] = b
		return err
	}))
	whole, partly, refused := 0, 0, 0
	for key, b := range before {
		for _, h := range harms {
			changed := h.harm(bytes.Clone(b), otherOf(before, key))
			if bytes.Equal(changed, b) && changed != nil {
				continue
			}
			store := mem.New()
			for k, v := range before {
				if k == key {
					v = changed
				}
				if k != key || v != nil {
					w.must(store.Create(t.Context(), k, blob.Bytes(v)))
				}
			}
			w.store = store
			n := w.restoreAll(h.name+" of "+key, tables)
			switch {
			case n == len(tables):
				whole++
			case n > 0:
				partly++
			default:
				refused++
			}
			if kind, _, _ := strings.Cut(key, "/"); kind == "index" && n < len(tables) {
				t.Errorf("%s of %s: an index is no more than a help", h.name, key)
			}
		}
	}
	t.Logf("%d objects: after %d changes all snapshots came back, after %d some, after %d none", len(before), whole, partly, refused)
	if whole == 0 || partly == 0 || refused == 0 {
		t.Error("one of the outcomes never came")
	}
}

// otherOf gives another object of the same kind where there is one.
func otherOf(all map[string][]byte, key string) []byte {
	kind, _, _ := strings.Cut(key, "/")
	for k, b := range all {
		if k != key && strings.HasPrefix(k, kind+"/") {
			return bytes.Clone(b)
		}
	}
	return bytes.Clone(all[key])
}

// restoreAll reads every snapshot and tells how many came back whole.
func (w *world) restoreAll(what string, tables map[repo.JobID][]frame) (whole int) {
	w.t.Helper()
	r, err := offline.Open(w.t.Context(), refusing{w.store, w.t}, w.t.TempDir(), w.unlock)
	if err != nil {
		w.kinded(what, err)
		return 0
	}
	defer func() { w.must(r.Close()) }()
	for job, rows := range tables {
		got, err := w.read(r, job)
		for i, plain := range got {
			if i >= len(rows) || plain != string(rows[i].plain) {
				w.t.Errorf("%s: chunk %d of snapshot %s is wrong", what, i, job)
				break
			}
		}
		switch {
		case err != nil:
			w.kinded(what, err)
		case len(got) != len(rows):
			w.t.Errorf("%s: %d chunks of %d without an error", what, len(got), len(rows))
		default:
			whole++
		}
	}
	return whole
}

func (w *world) kinded(what string, err error) {
	w.t.Helper()
	if errs.KindOf(err) == nil {
		w.t.Errorf("%s: an error without a kind: %v", what, err)
	}
}
