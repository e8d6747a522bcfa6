package repotest

import (
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Whole makes a repository that has an object of every kind: two domains with
// snapshots of which some share chunks, several packs and index files, two seal
// epochs, a controller epoch, a certificate authority, log records and a full
// record. The unlockers beside the key file open it too.
func Whole(t testing.TB, store blob.Store, others ...seal.Unlocker) (*repo.Repository, *seal.KeyFile) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r, first, key := New(t, store)
	for _, u := range others {
		must(r.AddKey(t.Context(), repo.NewID(), u))
	}
	epoch, err := r.ClaimEpoch(t.Context())
	must(err)
	must(r.PutCA(t.Context(), "0a1b2c", []byte("certificate and key of a test\n")))
	log, err := repo.OpenLog(t.Context(), r, epoch)
	must(err)
	for _, payload := range []string{"", "a batch of changes", "another"} {
		_, err := log.Append(t.Context(), repo.LogSynchronous, []byte(payload))
		must(err)
	}
	head, err := log.Head(t.Context())
	must(err)
	must(log.PutFull(t.Context(), head, []byte("all records")))
	id, err := r.CreateDomain(t.Context())
	must(err)
	second, err := r.Domain(t.Context(), id)
	must(err)
	shop := Table{Database: "shop", Name: "orders", Rows: 130, Seed: "a"}
	lines := Table{Database: "shop", Name: "lines", Rows: 300, Seed: "b"}
	for _, d := range []*repo.Domain{first, second} {
		b := NewBackups(t, r, d)
		b.Epoch, b.LogNumber = epoch, head.Number
		b.PackFrames = 24
		b.Backup(shop, lines)
		_, err := d.BumpSealEpoch(t.Context())
		must(err)
		lines.Rows += 40
		b.Backup(shop, lines, Table{Database: "archive", Name: "old", Rows: 7, Seed: "c"})
	}
	return r, key
}
