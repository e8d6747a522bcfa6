package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// checker is one check.
type checker struct {
	o     Options
	store blob.Store
	repo  *repo.Repository // nil without keys
	dir   string           // of sorted files
	note  *note            // how far reading frames is

	// id of the repository; zero when repository.json cannot be read and there are no keys.
	id repo.RepositoryID
	// latestEpoch is the newest one claimed.
	latestEpoch uint64
	domains     map[seal.DomainID]*domainRecord
	counts      map[seal.DomainID]*DomainCount
	snapshots   []snapshotRef
	// lists are the chunk lists that snapshots name: domain, name, entries, bytes.
	lists *sorter
	// newestNamed is the snapshot that names the newest record of the catalog log.
	newestNamed struct {
		number uint64
		key    string
	}

	// mu guards what follows: objects are read by several goroutines.
	mu       sync.Mutex
	report   *Report
	numbers  map[string]int // object and problem -> position in report.Findings
	effects  int            // in all findings
	hurt     map[repo.JobID]*HurtSnapshot
	progress Progress
	told     time.Time
}

// domainRecord is what the records of a domain say.
type domainRecord struct {
	newest    uint64
	sealEpoch uint32
	// present tells that there is a record which can be read.
	present bool
}

// snapshotRef is a snapshot whose references are good.
type snapshotRef struct {
	domain   seal.DomainID
	instance repo.InstanceID
	job      repo.JobID
}

// noFinding stands for a finding that the report has no room for.
const noFinding = -1

func newChecker(store blob.Store, o Options) (*checker, error) {
	c := &checker{o: o, store: readOnly{Store: store, pace: newPace(o.BytesPerSecond)}, repo: o.Repository,
		dir: filepath.Join(o.Dir, "sort"), domains: map[seal.DomainID]*domainRecord{}, counts: map[seal.DomainID]*DomainCount{}, numbers: map[string]int{}, hurt: map[repo.JobID]*HurtSnapshot{},
		report: &Report{Keys: o.Repository != nil, ReadData: o.ReadData, Sample: o.Sample, Objects: map[string]ObjectCount{}}}
	// What a check that was interrupted has sorted is of no use to this one.
	if err := errors.Join(os.RemoveAll(c.dir), os.MkdirAll(c.dir, 0o700)); err != nil {
		return nil, fmt.Errorf("prepare folder %s: %w", o.Dir, diskError(err))
	}
	c.lists = newSorter(c.dir, "lists", listNeedSize)
	return c, nil
}

func (c *checker) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	for _, step := range []func(context.Context) error{c.describe, c.resume, c.checkObjects, c.checkSnapshots, c.checkLog, c.checkDomains} {
		if err := step(ctx); err != nil {
			return errors.Join(err, c.note.saveNow(c.report))
		}
	}
	c.finish()
	return c.note.remove()
}

// describe reads repository.json, without which there is nothing to check.
func (c *checker) describe(ctx context.Context) error {
	d, err := repo.Describe(ctx, c.store)
	switch {
	case err == nil:
		c.id = d.ID
		if c.repo != nil && d.Hash != c.repo.Description().Hash {
			c.add(Finding{Object: repo.DescriptionObject, Problem: Damaged, Detail: "it is not the one that the keys are bound to"})
		}
	case errors.Is(err, errs.Unsupported):
		return err
	case errors.Is(err, errs.NotFound) && c.repo != nil:
		c.add(Finding{Object: repo.DescriptionObject, Problem: Missing, Detail: "no program can open the repository without it"})
	case errors.Is(err, errs.NotFound):
		return err
	default:
		if err := c.failed(ctx, repo.DescriptionObject, err); err != nil {
			return err
		}
	}
	if c.repo != nil {
		c.id = c.repo.ID()
	}
	c.report.Repository = c.id
	return nil
}

// failed makes a finding of an error of reading an object, or returns it when
// the store itself is at fault.
func (c *checker) failed(ctx context.Context, key string, err error) error {
	if fatal := c.fatal(ctx, err); fatal != nil {
		return fatal
	}
	f := Finding{Object: key, Problem: Damaged, Detail: reason(err)}
	if errors.Is(err, errs.NotFound) {
		f.Problem = Missing
	}
	c.add(f)
	return nil
}

// fatal tells errors that end the check from those of one object.
func (c *checker) fatal(ctx context.Context, err error) error { return storeAtFault(ctx, c.store, err) }

// storeAtFault gives back an error of reading an object when it is not the
// object's: when the store does not give this one and answers otherwise, the
// object is at fault (a bad sector, a right that is missing).
func storeAtFault(ctx context.Context, s blob.Store, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	switch errs.KindOf(err) {
	case errs.Corrupt, errs.NotFound, errs.Unsupported, errs.Invalid, errs.Denied:
		return nil
	}
	_, probe := s.Stat(ctx, repo.DescriptionObject)
	if probe == nil || errors.Is(probe, errs.NotFound) {
		return nil
	}
	return err
}

// gone tells an object that was listed and has been deleted since.
func (c *checker) gone(ctx context.Context, key string, err error) bool {
	if !errors.Is(err, errs.NotFound) {
		return false
	}
	_, err = c.store.Stat(ctx, key)
	return errors.Is(err, errs.NotFound)
}

// maxDetail bounds what is said of one finding, in bytes.
const maxDetail = 512

// reason gives an error in words; what is in it comes from a store. Of a long one
// the middle is left out: at its end is what the store said.
func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail/2], "") + "…" + strings.ToValidUTF8(text[len(text)-maxDetail/2:], "")
	}
	return text
}

// kindOf is the first part of a key.
func kindOf(key string) string {
	kind, _, ok := strings.Cut(key, "/")
	if !ok && strings.HasPrefix(key, "repository.") {
		return "repository"
	}
	return kind
}

// add takes a finding in and gives its number. A second one of the same object
// and problem only adds its chunks.
func (c *checker) add(f Finding) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addLocked(f)
}

func (c *checker) addLocked(f Finding) int {
	key := f.Object + "\x00" + string(f.Problem)
	if n, ok := c.numbers[key]; ok {
		c.report.Findings[n].Chunks += f.Chunks
		return n
	}
	if !f.Harmless {
		c.report.Harm++
	}
	if len(c.report.Findings) >= MaxFindings {
		c.report.FindingsMore++
		return noFinding
	}
	f.Kind = kindOf(f.Object)
	c.numbers[key] = len(c.report.Findings)
	c.report.Findings = append(c.report.Findings, f)
	return len(c.report.Findings) - 1
}

// found tells whether there is a finding of an object and problem.
func (c *checker) found(object string, problem Problem) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.numbers[object+"\x00"+string(problem)]
	return ok
}

// domainCount gives the counts of a domain.
func (c *checker) domainCount(id seal.DomainID) *DomainCount {
	d := c.counts[id]
	if d == nil {
		d = &DomainCount{Domain: id}
		c.counts[id] = d
	}
	return d
}

// hurts notes that a finding hurts a snapshot or something in it.
func (c *checker) hurts(finding int, e Effect) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurtsLocked(finding, e)
}

func (c *checker) hurtsLocked(finding int, e Effect) {
	if finding == noFinding {
		return
	}
	f := &c.report.Findings[finding]
	if slices.Contains(f.Effects, e) {
		return
	}
	if len(f.Effects) >= maxEffects || c.effects >= maxAllEffects {
		f.EffectsMore++
		return
	}
	c.effects++
	f.Effects = append(f.Effects, e)
}

// hurtSnapshot notes that objects of a snapshot, or all of it, are hurt.
func (c *checker) hurtSnapshot(instance repo.InstanceID, job repo.JobID, whole bool, objects int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hurt[job]
	if h == nil {
		if len(c.hurt) >= MaxHurtSnapshots {
			c.report.SnapshotsMore++
			return
		}
		h = &HurtSnapshot{Snapshot: job, Instance: instance}
		c.hurt[job] = h
	}
	h.Whole = h.Whole || whole
	h.Objects += objects
}

// finish puts the report into its final order.
func (c *checker) finish() {
	r := c.report
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Problem, b.Problem))
	})
	for i := range r.Findings {
		slices.SortFunc(r.Findings[i].Effects, compareEffects)
	}
	for _, d := range c.counts {
		r.Domains = append(r.Domains, *d)
	}
	slices.SortFunc(r.Domains, func(a, b DomainCount) int { return slices.Compare(a.Domain[:], b.Domain[:]) })
	for _, h := range c.hurt {
		r.Snapshots = append(r.Snapshots, *h)
	}
	slices.SortFunc(r.Snapshots, func(a, b HurtSnapshot) int { return slices.Compare(a.Snapshot[:], b.Snapshot[:]) })
	slices.SortFunc(r.BadPacks, func(a, b BadPack) int {
		return cmp.Or(slices.Compare(a.Domain[:], b.Domain[:]), slices.Compare(a.Pack[:], b.Pack[:]))
	})
	r.Ended = now()
}

func compareEffects(a, b Effect) int {
	return cmp.Or(slices.Compare(a.Snapshot[:], b.Snapshot[:]), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Object, b.Object))
}

// tellEvery is how often progress is told within a phase.
const tellEvery = 200 * time.Millisecond

// tell updates the progress and passes it on now and then.
func (c *checker) tell(change func(*Progress)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.progress.Phase
	change(&c.progress)
	if c.o.Progress == nil || before == c.progress.Phase && time.Since(c.told) < tellEvery {
		return
	}
	c.told = time.Now()
	c.progress.Findings, c.progress.Harm = int64(len(c.report.Findings))+c.report.FindingsMore, c.report.Harm
	c.o.Progress(c.progress)
}

// phase begins a phase.
func (c *checker) phase(p Phase) { c.tell(func(at *Progress) { at.Phase = p }) }

// opener reads a pack.
func (c *checker) opener(key string) pack.OpenFunc {
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return c.store.Open(ctx, key, off, n)
	}
}
