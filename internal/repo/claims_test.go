package repo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// claims are inputs of a few bytes with the largest numbers in the places of
// lengths and counts.
func claims() map[string]func() error {
	list := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte("TVL1"), n) }
	references := func(n uint32, tail int) []byte {
		return append(binary.BigEndian.AppendUint32([]byte("TVR1\x00\x00\x00\x01"), n), make([]byte, tail)...)
	}
	snapshot := func(state byte, references, content uint64) []byte {
		b := append([]byte("TVS1\x01"), state, state&1, 0)
		b = append(b, make([]byte, 16*3+16)...)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint32(b, 180)
		b = binary.BigEndian.AppendUint64(b, references)
		return append(binary.BigEndian.AppendUint64(b, content), make([]byte, 180)...)
	}
	record := func(class byte, length uint64) []byte {
		b := append([]byte("TVC1\x01"), class, 0, 0)
		b = binary.BigEndian.AppendUint64(b, 1)
		b = binary.BigEndian.AppendUint64(b, 1)
		return append(binary.BigEndian.AppendUint64(append(b, make([]byte, 32)...), length), make([]byte, 64)...)
	}
	all := map[string]func() error{}
	add := func(name string, fn func() error) { all[name] = fn }
	for _, n := range []uint32{repo.MaxListEntries, math.MaxInt32, math.MaxUint32} {
		add("list", func() error { _, err := repo.DecodeList(list(n)); return err })
		add("references", func() error { _, err := repo.DecodeReferences(references(n, 16)); return err })
	}
	// 2^32 lists of 44 bytes are 188 GB: nor may the product wrap around.
	add("references, wrapped", func() error {
		_, err := repo.DecodeReferences(references(math.MaxUint32, 16+(math.MaxUint32*44)%4096))
		return err
	})
	for _, n := range []uint64{64 << 20, math.MaxInt64, math.MaxUint64} {
		add("snapshot references", func() error { _, err := repo.DecodeSnapshot(snapshot(1, n, 28)); return err })
		add("snapshot content", func() error { _, err := repo.DecodeSnapshot(snapshot(1, 28, n)); return err })
		add("snapshot header", func() error { _, err := repo.DecodeSnapshotHeader(snapshot(2, n, n)[:96]); return err })
		add("log record", func() error { _, err := repo.InspectLogRecord(repo.LogObject(1), record(1, n)); return err })
		add("full record", func() error { _, err := repo.InspectLogRecord(repo.FullObject(1), record(3, n)); return err })
	}
	// zstd frames: a content size of 2^62, a window of 2^41 bytes, and both.
	for name, head := range map[string][]byte{
		"content, size":   append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xE0}, bytes.Repeat([]byte{0x3F}, 8)...),
		"content, window": {0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xFF, 0x01, 0x00, 0x00},
		"content, both":   append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0xF8}, bytes.Repeat([]byte{0x3F}, 8)...),
	} {
		add(name, func() error { _, err := repo.DecodeContent(append(head, 0x01, 0x00, 0x00)); return err })
	}
	return all
}

// TestDecodersAllocateByWhatTheyWereGiven: not by what it claims.
func TestDecodersAllocateByWhatTheyWereGiven(t *testing.T) {
	for name, decode := range claims() {
		var err error
		if got := repotest.Allocated(func() { err = decode() }); got > 512<<10 {
			t.Errorf("%s: %d bytes were allocated", name, got)
		}
		if errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lying is a store whose objects are larger than it can give.
type lying struct {
	blob.Store
	size int64
}

func (l lying) Stat(ctx context.Context, key string) (blob.Info, error) {
	info, err := l.Store.Stat(ctx, key)
	info.Size = l.size
	return info, err
}

func (l lying) Open(ctx context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return l.Store.Open(ctx, key, 0, -1)
}

// TestAnObjectThatIsSaidToBeLargeTakesNoMemory: each kind of object through the
// call that reads it, from a store that says of all that they are enormous or as
// large as they may be.
func TestAnObjectThatIsSaidToBeLargeTakesNoMemory(t *testing.T) {
	store := mem.New()
	r, d, unlocker := repotest.New(t, store)
	b := repotest.NewBackups(t, r, d)
	job := b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 10})
	if _, err := r.ClaimEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.PutCA(t.Context(), "1", []byte("bundle")); err != nil {
		t.Fatal(err)
	}
	reads := map[string]func(s blob.Store) error{
		"description": func(s blob.Store) error { _, err := repo.Describe(t.Context(), s); return err },
		"key and all": func(s blob.Store) error { _, err := repo.Open(t.Context(), s, unlocker); return err },
	}
	for key, limit := range map[string]int64{
		repo.SnapshotObject(b.Instance, job): repo.MaxSnapshotBytes, repo.EpochObject(1): 4 << 10, repo.CAObject("1"): 64 << 10,
		repo.DomainObject(d.ID(), 1): 64 << 10, repo.KeyObject(r.ID()): 64 << 10,
	} {
		if got := repo.MaxObjectBytes(key); got != limit && !strings.HasPrefix(key, "snapshots/") {
			t.Errorf("%s: at most %d bytes, want %d", key, got, limit)
		}
		reads[key] = func(s blob.Store) error { _, err := blob.ReadAll(t.Context(), s, key, limit); return err }
	}
	for name, read := range reads {
		for _, size := range []int64{64 << 10, 64 << 20, math.MaxInt64} {
			var err error
			got := repotest.Allocated(func() { err = read(lying{store, size}) })
			if errs.KindOf(err) != errs.Corrupt || got > 4<<20 {
				t.Errorf("%s of %d bytes: %d allocated, %v", name, size, got, err)
			}
		}
	}
}
