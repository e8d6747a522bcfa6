package repotest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Backups writes real snapshots of made-up tables into one domain: packs, index
// files and snapshot objects, as agent and controller do together. Chunks that
// it has stored before are not stored again.
type Backups struct {
	t        testing.TB
	repo     *repo.Repository
	domain   *repo.Domain
	Instance repo.InstanceID
	// Epoch is the controller's, in packs and fencing numbers.
	Epoch uint64
	// PackFrames is the number of frames at which a pack is closed.
	PackFrames int
	// ChunkRows is the number of rows of a chunk.
	ChunkRows int
	// LogNumber goes into commit records.
	LogNumber uint64
	// Sink takes chunks and parts instead of the store, if it is set: what stands
	// between an agent and a store is under test then.
	Sink Sink

	counter uint64
	stored  map[seal.Name]bool
}

// Sink takes what an agent sends. After its first error it is not asked again.
type Sink interface {
	// Put takes a sealed chunk, which may be stored already.
	Put(name seal.Name, frame []byte) error
	// Commit takes the sealed parts of the snapshot.
	Commit(references, content []byte) error
}

// NewBackups makes one for a new instance.
func NewBackups(t testing.TB, r *repo.Repository, d *repo.Domain) *Backups {
	return &Backups{t: t, repo: r, domain: d, Instance: repo.NewID(), Epoch: 1, PackFrames: 8, ChunkRows: 4, stored: map[seal.Name]bool{}}
}

// Table is a table to be backed up: Rows rows of a few columns, which differ with
// Seed.
type Table struct {
	Database, Name string
	Rows           int
	Seed           string
	// Binary is a number of rows in a run of COPY binary, beside Rows.
	Binary int
	// Wide adds a row that is larger than the domain's largest chunk to each run
	// that has rows.
	Wide bool
	// LargeObjects is a number of large objects that Database has.
	LargeObjects int
}

// Beside makes one for another instance of the same domain: what one has stored,
// the other does not store again. Not both at a time.
func (b *Backups) Beside(instance repo.InstanceID) *Backups {
	other := *b
	other.Instance = instance
	return &other
}

// backup is one snapshot in the making.
type backup struct {
	*Backups
	job    repo.JobID
	fence  repo.Fence
	err    error // of Sink
	sealer *seal.Sealer
	namer  *seal.Namer
	writer *pack.Writer
	packs  []pack.ID
	index  *index.Builder
}

// Backup makes a snapshot of tables and gives its id. Tables of one database
// must follow one another.
func (b *Backups) Backup(tables ...Table) repo.JobID {
	b.t.Helper()
	job := repo.NewID()
	if err := b.BackupAs(job, tables...); err != nil {
		b.t.Fatal(err)
	}
	return job
}

// BackupAs makes a snapshot under a job's id. It fails only as Sink does.
func (b *Backups) BackupAs(job repo.JobID, tables ...Table) error {
	b.t.Helper()
	b.counter++
	epoch := b.domain.SealEpoch()
	keys := b.domain.Keys()
	w := &backup{Backups: b, job: job, fence: repo.Fence{Epoch: b.Epoch, Counter: b.counter},
		sealer: seal.NewSealer(b.domain.ID(), epoch, keys.Seal(epoch), keys.Refs()), namer: seal.NewNamer(keys.Name()), index: index.NewBuilder(b.domain.ID())}
	content, refs := w.content(tables)
	w.closePack()
	w.putIndex()
	w.commit(content, refs)
	return w.err
}

func (w *backup) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// put stores a chunk unless it is stored already.
func (w *backup) put(kind seal.Kind, plain []byte) seal.Name {
	w.t.Helper()
	name := w.namer.Name(kind, plain)
	if w.stored[name] {
		return name
	}
	w.stored[name] = true
	frame, err := w.sealer.Seal(nil, kind, name, plain)
	w.must(err)
	if w.Sink != nil {
		delete(w.stored, name) // what is stored, whoever is behind it knows
		if w.err == nil {
			w.err = w.Sink.Put(name, frame)
		}
		return name
	}
	if w.writer == nil {
		w.writer, err = pack.Create(w.t.TempDir(), pack.Meta{Domain: w.domain.ID(), Epoch: w.Epoch, Job: w.job, AttemptEpoch: w.fence.Epoch,
			AttemptCounter: w.fence.Counter, Uploader: w.Instance, Created: time.Now()})
		w.must(err)
	}
	w.must(w.writer.Add(frame, seal.HashFrame(frame)))
	if w.writer.Count() >= w.PackFrames {
		w.closePack()
	}
	return name
}

func (w *backup) closePack() {
	w.t.Helper()
	if w.writer == nil {
		return
	}
	s, err := w.writer.Finish(w.domain.Keys().Pack())
	w.must(err)
	w.must(w.repo.Store().Create(w.t.Context(), repo.PackObject(w.domain.ID(), s.ID()), s))
	w.index.AddPack(s.Directory())
	w.packs = append(w.packs, s.ID())
	w.must(s.Remove())
	w.writer = nil
}

func (w *backup) putIndex() {
	w.t.Helper()
	if w.index.Len() == 0 {
		return
	}
	var file bytes.Buffer
	w.must(w.index.Build(&file))
	id := [32]byte(file.Bytes()[file.Len()-32:])
	w.must(w.repo.Store().Create(w.t.Context(), repo.IndexObject(w.domain.ID(), id), blob.Bytes(file.Bytes())))
}

// list is a repo.PutList.
func (w *backup) list(_ context.Context, plain []byte) (seal.Name, error) {
	return w.put(seal.KindList, plain), nil
}

func (w *backup) content(tables []Table) (*repo.Content, *repo.References) {
	w.t.Helper()
	lists := repo.NewListBuilder()
	started := time.Unix(1700000000, 0).UTC()
	c := &repo.Content{Version: 1, Kind: repo.KindLogical, Agent: "test", Started: started, Finished: started.Add(time.Minute),
		Instance: repo.InstanceFacts{Name: "main", SystemIdentifier: 7, Timeline: 1, Version: pg.Version(150018)}, Logical: &repo.Logical{}}
	for len(tables) > 0 {
		n := 1
		for n < len(tables) && tables[n].Database == tables[0].Database {
			n++
		}
		c.Logical.Databases = append(c.Logical.Databases, w.database(lists.Database(), tables[:n], uint32(len(c.Logical.Databases))))
		tables = tables[n:]
	}
	return c, lists.References()
}

func (w *backup) database(lists *repo.DatabaseLists, tables []Table, number uint32) repo.Database {
	w.t.Helper()
	db := repo.Database{Name: pg.Name(tables[0].Database), OID: 16384 + number, State: repo.DatabaseComplete, Encoding: "UTF8", Properties: json.RawMessage(`{}`)}
	archive := lists.Run(repo.RunOrder{})
	text := []byte("schema of " + tables[0].Database)
	w.add(archive, repo.ListEntry{Kind: seal.KindArchive, Name: w.put(seal.KindArchive, text), Length: uint32(len(text))})
	w.must(archive.End(w.t.Context(), w.list))
	runs, binaries := make([]*repo.RunLists, len(tables)), make([]*repo.RunLists, len(tables))
	var objects *largeObjects
	for i, t := range tables {
		runs[i] = lists.Run(repo.RunOrder{Object: uint32(20000 + i)})
		w.rows(runs[i], t)
		if t.Binary > 0 {
			binaries[i] = lists.Run(repo.RunOrder{Object: uint32(20000 + i), Part: 1})
			w.binaryRows(binaries[i], t)
		}
		if t.LargeObjects > 0 {
			objects = w.largeObjects(lists, t)
		}
	}
	w.must(lists.Finish(w.t.Context(), w.list))
	if objects != nil {
		db.LargeObjects = objects.facts()
	}
	db.Archive = &repo.Archive{Tool: 150018, FormatVersion: "1.14", Stream: archive.Stream()}
	for i, t := range tables {
		table := repo.Table{OID: uint32(20000 + i), Schema: "public", Name: pg.Name(t.Name), Columns: []pg.Name{"a", "b"}, Pages: 1,
			Rows: runs[i].Rows(), Fingerprint: runs[i].Fingerprint(), Runs: []repo.Run{{Stream: runs[i].Stream(), Rows: runs[i].Rows(), Fingerprint: runs[i].Fingerprint()}}}
		if b := binaries[i]; b != nil {
			table.Runs = append(table.Runs, repo.Run{Binary: true, Stream: b.Stream(), Rows: b.Rows(), Fingerprint: b.Fingerprint(), Wide: "octet_length(b) > 100"})
		}
		db.Tables = append(db.Tables, table)
	}
	return db
}

func (w *backup) add(run *repo.RunLists, e repo.ListEntry) {
	w.t.Helper()
	w.must(run.Add(w.t.Context(), e, w.list))
}

func (w *backup) rows(run *repo.RunLists, t Table) {
	w.t.Helper()
	for first := 0; first < t.Rows; first += w.ChunkRows {
		var plain []byte
		e := repo.ListEntry{Kind: seal.KindRowsText, Rows: uint32(min(w.ChunkRows, t.Rows-first))}
		for i := range int(e.Rows) {
			row := fmt.Appendf(nil, "%d\trow %s of %s.%s\n", first+i, t.Seed, t.Database, t.Name)
			e.Fingerprint.Add(chunk.HashRow(row))
			plain = append(plain, row...)
		}
		e.Length, e.Name = uint32(len(plain)), w.put(seal.KindRowsText, plain)
		w.add(run, e)
	}
	if t.Wide && t.Rows > 0 {
		w.wideRow(run, append(w.wideText(t), '\n'))
	}
	w.must(run.End(w.t.Context(), w.list))
}

func (w *backup) commit(content *repo.Content, refs *repo.References) {
	w.t.Helper()
	d := w.domain
	epoch := d.SealEpoch()
	sealedRefs, err := repo.SealReferences(refs, d.Keys().Refs(), d.ID(), w.job)
	w.must(err)
	w.must(content.Validate(refs))
	sealedContent, err := repo.SealContent(content, d.Keys().Seal(epoch), d.ID(), w.job)
	w.must(err)
	if w.Sink != nil {
		if w.err == nil {
			w.err = w.Sink.Commit(sealedRefs, sealedContent)
		}
		return
	}
	p, err := d.PrepareSnapshot(repo.SnapshotHeader{Kind: repo.KindLogical, Complete: true, Instance: w.Instance, Job: w.job, Fence: w.fence, SealEpoch: epoch},
		sealedRefs, sealedContent, repo.Commit{Agent: repo.NewID(), Certificate: [32]byte{7}, Time: time.Now(), LogNumber: w.LogNumber})
	w.must(err)
	r, err := d.PutSnapshot(w.t.Context(), p)
	if err != nil || r.Outcome != repo.OutcomeDone {
		w.t.Fatalf("put snapshot: %s, %v", r.Outcome, err)
	}
}
