package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/export"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// RebuildOptions say how a controller is made again.
type RebuildOptions struct {
	// KeepOperators leaves the certificates of older operators good. Else they are
	// void: whoever took the old controller may have taken a context with it.
	KeepOperators bool
	// EpochAbove is an epoch that the new one must be above, for agents that have
	// seen a higher one than the store has; 0 when the store's is right.
	EpochAbove uint64
	// At recovers the store as it was at a time first, if it keeps versions: for one
	// whose objects somebody has deleted or overwritten. Zero does not.
	At time.Time
}

// Rebuilt tells what Rebuild made.
type Rebuilt struct {
	// Repository is the repository's id, Epoch the new controller's.
	Repository repo.RepositoryID
	Epoch      uint64
	// Context is the file with which the first admin reaches the controller.
	Context string
	// Recovered objects have the bytes again that they had at RebuildOptions.At.
	Recovered int
	// Log is what the catalog log gave.
	Log repo.LogScan
	// Agents, Instances and Jobs are in the new catalog.
	Agents, Instances, Jobs int
	// Operators and Tokens were made void.
	Operators, Tokens int
	// Snapshots are in the store, Adopted of them were not in the log; Newest is when
	// the newest was made, zero without any: a store that is a copy may lack later ones.
	Snapshots, Adopted int
	Newest             time.Time
	// Absent snapshots are in the log and not in the store; their records were removed.
	Absent int
	// Damaged snapshot objects; at most 100 are named.
	Damaged []error
	// AuditRecords of the chain, and what is wrong with it.
	AuditRecords uint64
	AuditFault   error
}

// maxEpochLeap bounds the epochs that one Rebuild claims.
const maxEpochLeap = 1000

// Rebuild makes the state folder of a new controller from a store and the secret
// that opens the repository in it, and nothing else.
//
// Durable steps:
//  1. rebuild.unfinished, which names the store. Before it nothing is written
//     anywhere: the folder must be empty and the secret must fit. With
//     RebuildOptions.At, what recoverPast does comes right after it.
//  2. The next epoch, in the store. Agents obey the highest they have seen.
//  3. catalog.db.part: what the catalog log says, read from its newest full record.
//  4. The take-over: an empty record of the new epoch in the log. What an older
//     controller wrote until then is taken in; from here on it can write nothing
//     more, and stops at its next record.
//  5. The issuing authority of the epoch, signed by the root that the fleet knows,
//     sealed, in the store.
//  6. catalog.db is there.
//  7. One transaction: deletion is paused, tokens and operators are void, the first
//     admin has a new certificate, restores under way are lost, and backups under
//     way may have made snapshots that nobody recorded.
//  8. The catalog's snapshots become what the objects in the store say, whatever
//     the log said.
//  9. All of that is in the log, and a full record after it.
//  10. admin-context.yaml.
//  11. controller.yaml, which says that it is done.
//  12. rebuild.unfinished goes.
//
// A crash after step 1 and before step 11 leaves a folder that run refuses and
// that the same Rebuild makes whole: it begins again with step 2. After step 11
// the controller is made, and run takes it. What it leaves
// in the store is an epoch and an authority that nobody uses, and log records
// that change nothing or are true. A crash after step 4 has stopped the older
// controller for good. Repeating all of it, on another machine too, is the same
// again with a higher epoch.
func Rebuild(ctx context.Context, c Config, o RebuildOptions) (*Rebuilt, error) {
	unlock, err := lockFolder(c.lockFile())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := beginRebuild(&c); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	recovered := 0
	if !o.At.IsZero() {
		var err error
		if recovered, err = recoverStore(ctx, &c, o.At); err != nil {
			return nil, fmt.Errorf("rebuild: %w", err)
		}
	}
	r, err := openRepository(ctx, &c)
	if err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	out, err := rebuildFrom(ctx, r, c, o)
	if err == nil {
		out.Recovered = recovered
	}
	return out, err
}

// rebuildFrom is Rebuild once nothing speaks against it.
func rebuildFrom(ctx context.Context, r *repo.Repository, c Config, o RebuildOptions) (*Rebuilt, error) {
	if err := durable.WriteFile(RebuildingFile(c.StateDir), []byte(c.Store)); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	b := &rebuilding{config: &c, options: o, repository: r, now: time.Now(), out: &Rebuilt{Repository: r.ID(), Context: c.contextFile()}}
	if err := b.run(ctx); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	if err := writeDecisions(&c); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	return b.out, durable.Remove(RebuildingFile(c.StateDir))
}

// RebuildingFile is the file of a state folder that is there while rebuild is not done.
func RebuildingFile(state string) string { return filepath.Join(state, "rebuild.unfinished") }

// beginRebuild refuses a folder that holds anything, or takes up what a Rebuild
// from the same store left. The lock, and a file with the secret, may be there.
func beginRebuild(c *Config) error {
	text, err := os.ReadFile(RebuildingFile(c.StateDir))
	again := err == nil
	switch {
	case again && string(text) != c.Store:
		return fmt.Errorf("an earlier rebuild in %s from store %s did not finish, this one names %s: %w", c.StateDir, text, c.Store, errs.Conflict)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	ours := map[string]bool{filepath.Base(c.lockFile()): true}
	if again {
		for _, path := range []string{RebuildingFile(c.StateDir), c.catalogFile(), c.catalogFile() + ".part", c.contextFile()} {
			ours[filepath.Base(path)] = true
		}
	}
	entries, err := os.ReadDir(c.StateDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(c.StateDir, e.Name())
		if !ours[e.Name()] && c.Unlock.Reference() != "file:"+path {
			return fmt.Errorf("%s is there, and rebuild needs an empty folder: %w", path, errs.Exists)
		}
	}
	if !again {
		return nil
	}
	return errors.Join(durable.Remove(c.catalogFile()), durable.Remove(c.contextFile()))
}

// rebuilding is one Rebuild.
type rebuilding struct {
	config     *Config
	options    RebuildOptions
	repository *repo.Repository
	now        time.Time
	out        *Rebuilt
}

// run does the steps from the epoch to the context.
func (b *rebuilding) run(ctx context.Context) error {
	if err := b.claim(ctx); err != nil {
		return err
	}
	imp, err := catalog.NewImport(b.config.catalogFile())
	if err != nil {
		return err
	}
	log, head, err := b.takeOver(ctx, imp)
	if err != nil {
		return errors.Join(err, imp.Abandon())
	}
	issuer, err := reissueAuthority(ctx, b.repository, b.out.Log.Head.Epoch, b.out.Epoch, b.now)
	if err != nil {
		return errors.Join(err, imp.Abandon())
	}
	made, err := makeOperator(issuer, FirstOperator, b.now)
	if err != nil {
		return errors.Join(err, imp.Abandon())
	}
	base := b.out.Log.Head
	cat, err := imp.Finish(ctx, catalog.Meta{Repository: b.repository.ID(), Epoch: b.out.Epoch, Name: b.config.Name, Created: b.now,
		Head: witnessRecord(head, b.now), Base: witnessRecord(base, b.now)})
	if err != nil {
		return errors.Join(err, imp.Abandon())
	}
	if err := errors.Join(b.fill(ctx, cat, log, made), cat.Close()); err != nil {
		return err
	}
	entry, err := made.context(b.config.Name, reachable(b.config.Listen))
	if err != nil {
		return err
	}
	return (&access.File{Current: entry.Name, Contexts: []access.Context{entry}}).Save(b.config.contextFile())
}

// claim claims the next epoch, or the first above the one asked for.
func (b *rebuilding) claim(ctx context.Context) error {
	latest, err := b.repository.LatestEpoch(ctx)
	if err != nil {
		return err
	}
	if above := b.options.EpochAbove; above > latest && above-latest > maxEpochLeap {
		return fmt.Errorf("claim an epoch above %d: the store's newest is %d, and one rebuild claims at most %d: %w", above, latest, maxEpochLeap, errs.Invalid)
	}
	for {
		if b.out.Epoch, err = b.repository.ClaimEpoch(ctx); err != nil || b.out.Epoch > b.options.EpochAbove {
			return err
		}
	}
}

// maxChases bounds how often an older controller may be faster with its next
// record: each time it has done two seconds' work and this one milliseconds'.
const maxChases = 100

// takeOver reads the log and makes it the new epoch's by a record that changes
// nothing.
func (b *rebuilding) takeOver(ctx context.Context, imp *catalog.Import) (*repo.Log, repo.Witness, error) {
	apply := func(rec *repo.LogRecord) error {
		if err := imp.Apply(rec.Payload); err != nil {
			return fmt.Errorf("record %d of the catalog log: %w", rec.Number, err)
		}
		return nil
	}
	scan, err := b.repository.ScanLog(ctx, apply)
	if err != nil {
		return nil, repo.Witness{}, err
	}
	b.out.Log = *scan
	for chase := 0; ; chase++ {
		log, err := repo.OpenLogAt(ctx, b.repository, b.out.Epoch, b.out.Log.Head)
		if err != nil {
			return nil, repo.Witness{}, err
		}
		head, err := log.Append(ctx, repo.LogSynchronous, catalog.TakeOver())
		if err == nil {
			return log, head, nil
		}
		conflict, ok := errors.AsType[*repo.LogConflict](err)
		if !ok || conflict.TakenOver() || chase == maxChases {
			return nil, repo.Witness{}, err
		}
		more, err := b.repository.ScanLogAfter(ctx, b.out.Log.Head, apply)
		if err != nil {
			return nil, repo.Witness{}, err
		}
		b.out.Log.Head, b.out.Log.Records = more.Head, b.out.Log.Records+more.Records
		b.out.Log.Faults = append(b.out.Log.Faults, more.Faults...)
	}
}

// fill makes the catalog what it must be after the log was read, and exports it.
func (b *rebuilding) fill(ctx context.Context, cat *catalog.Catalog, log *repo.Log, made *newOperator) error {
	if err := b.settle(ctx, cat, made); err != nil {
		return err
	}
	rec := &reconciler{repository: b.repository, catalog: cat, all: true}
	found, err := rec.run(ctx)
	if err != nil {
		return err
	}
	if err := rec.drop(ctx, found.absent); err != nil {
		return err
	}
	b.out.Snapshots, b.out.Adopted, b.out.Damaged, b.out.Absent = found.snapshots, found.adopted, found.damaged, len(found.absent)
	if err := b.count(ctx, cat); err != nil {
		return err
	}
	if err := export.New(cat, log, zap.NewNop()).Ship(ctx); err != nil {
		return err
	}
	number, _, err := cat.LastFull(ctx)
	if err == nil && number == 0 && len(b.out.Log.Faults) > 0 {
		// A log with a hole is whole again only behind a full record.
		return fmt.Errorf("put a full record of the catalog behind a damaged log: it has more than %d bytes, or the store refused it: %w", repo.MaxFullPayload, errs.Exhausted)
	}
	return err
}

func (b *rebuilding) count(ctx context.Context, cat *catalog.Catalog) error {
	return cat.View(ctx, func(tx *catalog.Tx) error {
		b.out.Agents, b.out.Instances, b.out.Jobs = tx.Counts()
		newest, _, err := tx.Snapshots(catalog.Page{Size: 1}, nil)
		if err != nil {
			return err
		}
		for _, s := range newest {
			b.out.Newest = s.Committed
		}
		if b.out.AuditRecords, err = tx.VerifyAudit(); errors.Is(err, errs.Corrupt) {
			b.out.AuditFault = err
			return nil
		}
		return err
	})
}
