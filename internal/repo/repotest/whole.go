package repotest

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// WholeMaster is the number of the master key that is in force in what Whole makes.
const WholeMaster = 3

// WholeSnapshots is the number of snapshots in it, and WholeInstances that of
// instances that its catalog log tells of.
const (
	WholeSnapshots = 6
	WholeInstances = 3
)

// whole is the repository that Whole makes.
type whole struct {
	t           testing.TB
	store       blob.Store
	repo        *repo.Repository
	log         *repo.Log
	keys        []repo.Rewrap
	agent       repo.AgentID
	epoch, head uint64
	sequence    uint64
	records     []record
	started     time.Time
}

// Whole makes a repository that has an object of every kind: two domains, one of
// them shared by two instances, with several packs, index files and seal epochs;
// snapshots with rows of text, of binary and in parts, large objects and an
// archive, and an abort marker; two controller epochs, an authority of certificates,
// log records of every class and full records that a controller can be rebuilt
// from; the third master key, with what the first two sealed left in place; an
// object in quarantine and ballast. The unlockers beside the key file open it too.
func Whole(t testing.TB, store blob.Store, others ...seal.Unlocker) (*repo.Repository, *seal.KeyFile) {
	t.Helper()
	r, first, key := New(t, store)
	w := &whole{t: t, store: store, repo: r, agent: repo.NewID(), keys: []repo.Rewrap{r.Own()}, started: time.Now()}
	for _, u := range others {
		k := repo.Rewrap{ID: repo.NewID(), Unlocker: u}
		w.must(r.AddKey(t.Context(), k.ID, u))
		w.keys = append(w.keys, k)
	}
	w.reign()
	w.authority()
	w.put(agentRecord(w.agent, "db1", w.started))
	shared := w.backups(first, "main", "shop")
	w.rotate()
	other := shared.Beside(w.instance(first.ID(), "replica"))
	other.Backup(w.tables("shop", 40)...)
	w.full()
	w.reign() // another controller takes over
	id, err := r.CreateDomain(t.Context())
	w.must(err)
	second, err := r.Domain(t.Context(), id)
	w.must(err)
	w.rotate()
	apart := w.backups(second, "apart", "ledger")
	_, err = second.BumpSealEpoch(t.Context())
	w.must(err)
	apart.LogNumber = w.head
	apart.Backup(w.tables("ledger", 80)...)
	w.abort(first, shared.Instance)
	w.must(store.Create(t.Context(), quarantined(sha256.Sum256([]byte("damaged")), repo.EpochObject(1)), blob.Bytes("damaged")))
	w.must(store.Create(t.Context(), repo.BallastObject(1), blob.Bytes("room")))
	return r, key
}

func (w *whole) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// reign claims an epoch and puts its first record, which changes nothing.
func (w *whole) reign() {
	w.t.Helper()
	var err error
	w.epoch, err = w.repo.ClaimEpoch(w.t.Context())
	w.must(err)
	w.log, err = repo.OpenLog(w.t.Context(), w.repo, w.epoch)
	w.must(err)
	w.append(repo.LogSynchronous, payload(0))
}

func (w *whole) append(class repo.LogClass, payload []byte) {
	w.t.Helper()
	at, err := w.log.Append(w.t.Context(), class, payload)
	w.must(err)
	w.head = at.Number
}

// put puts a record in the catalog, by two log records of both ordinary classes.
func (w *whole) put(r record) {
	w.t.Helper()
	for _, class := range []repo.LogClass{repo.LogSynchronous, repo.LogAsynchronous} {
		w.sequence++
		w.append(class, payload(w.sequence, r))
	}
	w.records = append(w.records, r)
}

// full puts a full record.
func (w *whole) full() {
	w.t.Helper()
	head, err := w.log.Head(w.t.Context())
	w.must(err)
	w.must(w.log.PutFull(w.t.Context(), head, payload(0, w.records...)))
}

// authority puts a root and the issuing authority of the epoch.
func (w *whole) authority() {
	w.t.Helper()
	root, err := pki.NewRoot(w.repo.ID(), w.started)
	w.must(err)
	issuer, err := root.Issuer(w.epoch, w.started)
	w.must(err)
	bundle, err := root.PEM()
	w.must(err)
	w.must(w.repo.PutCA(w.t.Context(), root.Certificate().SerialNumber.Text(16), bundle))
	bundle, err = issuer.PEM()
	w.must(err)
	w.must(w.repo.PutCA(w.t.Context(), issuer.Certificate().SerialNumber.Text(16), bundle))
}

// rotate puts a new master key in force; every key goes on with it.
func (w *whole) rotate() {
	w.t.Helper()
	_, err := w.repo.RotateMaster(w.t.Context(), w.log, w.keys, nil)
	w.must(err)
	head, err := w.log.Head(w.t.Context())
	w.must(err)
	w.head = head.Number
}

// instance puts a new instance in the catalog.
func (w *whole) instance(domain seal.DomainID, name string) repo.InstanceID {
	w.t.Helper()
	id := repo.NewID()
	w.put(instanceRecord(id, w.agent, "db1", name, domain, w.started))
	return id
}

// tables are those of a database, with rows that grow by more.
func (w *whole) tables(database string, more int) []Table {
	return []Table{
		{Database: database, Name: "orders", Rows: 130, Seed: "a", Binary: 9, Wide: true, LargeObjects: 3},
		{Database: database, Name: "lines", Rows: 300 + more, Seed: "b"},
		{Database: database, Name: "empty", Seed: "d"},
		{Database: "archive", Name: "old", Rows: 7, Seed: "c"},
	}
}

// backups makes a new instance with two snapshots in two seal epochs.
func (w *whole) backups(d *repo.Domain, name, database string) *Backups {
	w.t.Helper()
	b := NewBackups(w.t, w.repo, d)
	b.Instance = w.instance(d.ID(), name)
	b.Epoch, b.LogNumber, b.PackFrames = w.epoch, w.head, 24
	b.Backup(w.tables(database, 0)...)
	_, err := d.BumpSealEpoch(w.t.Context())
	w.must(err)
	b.Backup(w.tables(database, 40)...)
	return b
}

// abort gives up a job.
func (w *whole) abort(d *repo.Domain, instance repo.InstanceID) {
	w.t.Helper()
	marker, err := d.PrepareAbort(instance, repo.NewID(), repo.Fence{Epoch: w.epoch, Counter: 99}, repo.Commit{Agent: w.agent, Time: w.started, LogNumber: w.head})
	w.must(err)
	r, err := d.PutSnapshot(w.t.Context(), marker)
	if err != nil || r.Outcome != repo.OutcomeDone && r.Outcome != repo.OutcomeAborted {
		w.t.Fatalf("put an abort marker: %s, %v", r.Outcome, err)
	}
}
