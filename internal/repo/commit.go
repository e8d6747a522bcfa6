package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Outcome is how the put of a snapshot, or of an abort marker, ended.
type Outcome byte

// The outcomes.
const (
	// OutcomeUnknown: nothing is at the key that could be seen, and a put may still
	// arrive. The job stays "committing": put again, or put an abort marker.
	OutcomeUnknown Outcome = iota
	// OutcomeDone: this attempt's snapshot exists.
	OutcomeDone
	// OutcomeSuperseded: another attempt's snapshot exists.
	OutcomeSuperseded
	// OutcomeAborted: an abort marker is there. This job never makes a snapshot.
	OutcomeAborted
)

// String gives the outcome in a word.
func (o Outcome) String() string {
	return [...]string{"unknown", "done", "superseded", "aborted"}[o]
}

// PutResult says how a put ended and what is at the key now.
type PutResult struct {
	Outcome Outcome
	// Header is that of the object at the key; zero when the outcome is unknown.
	Header SnapshotHeader
	// Hash is the SHA-256 of the object at the key; zero when unknown.
	Hash [32]byte
}

// PreparedSnapshot is a whole snapshot object, or abort marker, before it is put.
type PreparedSnapshot struct {
	header SnapshotHeader
	body   blob.Parts
	hash   [32]byte
}

// Header of the object.
func (p *PreparedSnapshot) Header() SnapshotHeader { return p.header }

// Hash is the SHA-256 of the object: what the journal keeps before the put.
func (p *PreparedSnapshot) Hash() [32]byte { return p.hash }

// Size of the object in bytes.
func (p *PreparedSnapshot) Size() int64 { return p.body.Size() }

// Key of the object.
func (p *PreparedSnapshot) Key() string { return SnapshotObject(p.header.Instance, p.header.Job) }

// PrepareSnapshot makes the snapshot object of its parts and signs the commit
// record. State, Domain and the lengths of h and Repository of c are filled in.
// The parts are not copied and must not change. It writes nothing.
func (d *Domain) PrepareSnapshot(h SnapshotHeader, references, content []byte, c Commit) (*PreparedSnapshot, error) {
	h.State = SnapshotCommitted
	h.ReferencesBytes, h.ContentBytes = int64(len(references)), int64(len(content))
	return d.prepare(h, references, content, c)
}

// PrepareAbort makes an abort marker for the job: once it exists, no attempt of
// the job can make a snapshot. It writes nothing.
func (d *Domain) PrepareAbort(instance InstanceID, job JobID, fence Fence, c Commit) (*PreparedSnapshot, error) {
	return d.prepare(SnapshotHeader{State: SnapshotAborted, Instance: instance, Job: job, Fence: fence}, nil, nil, c)
}

func (d *Domain) prepare(h SnapshotHeader, references, content []byte, c Commit) (*PreparedSnapshot, error) {
	h.Domain = d.id
	c.Repository = d.repo.ID()
	err := h.check()
	if _, known := kindCodes[h.Kind]; err == nil && !known && h.Kind != "" {
		err = fmt.Errorf("kind %q", h.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w: %w", h.Job, err, errs.Invalid)
	}
	if h.SealEpoch > d.SealEpoch() {
		return nil, fmt.Errorf("prepare snapshot %s: seal epoch %d of %d: %w", h.Job, h.SealEpoch, d.SealEpoch(), errs.Invalid)
	}
	header := h.encode()
	record := encodeCommit(c, sha256.Sum256(references), sha256.Sum256(content))
	mac := commitMAC(d.keys.Commit(), append(append([]byte(nil), header...), record...))
	p := &PreparedSnapshot{header: h, body: blob.Parts{header, references, content, append(record, mac[:]...)}}
	sum := sha256.New()
	for _, part := range p.body {
		sum.Write(part) // never fails
	}
	sum.Sum(p.hash[:0])
	return p, nil
}

// The bounds of PutSnapshot's own patience. The store's retry wrapper has its
// own below it; this one covers answers that stay away for longer.
const (
	putTries   = 6
	putWait    = 200 * time.Millisecond
	putWaitMax = 10 * time.Second
)

// PutSnapshot makes a snapshot, or an abort marker, exist.
//
// One durable step: the conditional put of snapshots/<instance>/<job>. The key
// is one per job, so the put itself decides between attempts, and between a
// snapshot and an abort marker. The caller must have made durable, before:
// every pack that the snapshot needs, and the job's state "committing" with
// p.Hash(). A crash before the put leaves nothing, one after it a snapshot that
// ResolveSnapshot finds.
//
// Whatever the store answers ("done" too, since a store may lie, "it exists", or
// nothing), the object is read back. Equal bytes, or the same attempt's parts under another commit time, are Done;
// another attempt's are Superseded; a marker is Aborted; absent is put again,
// until the context or the tries end. The outcome is then Unknown, with an error
// of kind errs.Unavailable, since a put may still arrive. When the store
// refused the very first put (full, read-only), the outcome is Unknown with the
// store's error alone: nothing was, or will be, written by this call.
func (d *Domain) PutSnapshot(ctx context.Context, p *PreparedSnapshot) (PutResult, error) {
	result, err := d.putSnapshot(ctx, p)
	if err != nil {
		return PutResult{}, fmt.Errorf("put snapshot %s: %w", p.header.Job, err)
	}
	return result, nil
}

func (d *Domain) putSnapshot(ctx context.Context, p *PreparedSnapshot) (PutResult, error) {
	wait, doubtful := putWait, false
	for try := 1; ; try++ {
		err := d.repo.store.Create(ctx, p.Key(), p.body)
		refused := err != nil && !errors.Is(err, errs.Exists) && !noAnswer(err)
		if refused && !doubtful {
			return PutResult{}, err
		}
		if refused || ctx.Err() != nil {
			return PutResult{}, unknown(errors.Join(err, blob.Canceled(ctx)))
		}
		doubtful = true
		result, readErr := d.readBack(ctx, p)
		if readErr == nil && result.Outcome != OutcomeUnknown {
			return result, nil
		}
		if readErr != nil && !noAnswer(readErr) {
			return PutResult{}, fmt.Errorf("read back: %w", errors.Join(readErr, err))
		}
		if try == putTries {
			return PutResult{}, unknown(fmt.Errorf("not there after %d tries: %w", try, errors.Join(err, readErr, errs.Unavailable)))
		}
		if err := pause(ctx, wait); err != nil {
			return PutResult{}, unknown(err)
		}
		wait = min(2*wait, putWaitMax)
	}
}

// noAnswer tells errors after which a put may have been done, or be done yet.
func noAnswer(err error) bool {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.Canceled, errs.Timeout:
		return true
	}
	return false
}

// unknown makes errs.Unavailable the kind of an error after which the outcome
// of a put is open, whatever else it is.
func unknown(err error) error { return fmt.Errorf("outcome unknown: %w: %w", errs.Unavailable, err) }

// readBack settles what a put came to.
func (d *Domain) readBack(ctx context.Context, p *PreparedSnapshot) (PutResult, error) {
	result, s, err := d.resolve(ctx, p.header.Instance, p.header.Job, p.header.Fence, p.hash)
	if err != nil || result.Outcome != OutcomeSuperseded {
		return result, err
	}
	// The same attempt put the same parts before, with another commit time.
	if s.Header == p.header && d.sameParts(s, p) {
		result.Outcome = OutcomeDone
	}
	return result, nil
}

func (d *Domain) sameParts(s *Snapshot, p *PreparedSnapshot) bool {
	return sha256.Sum256(s.References) == sha256.Sum256(p.body[1]) && sha256.Sum256(s.Content) == sha256.Sum256(p.body[2])
}

// ResolveSnapshot finds out, after a restart, what became of the put of an
// attempt: hash is what the journal kept. It writes nothing. OutcomeUnknown
// without an error means that the key is empty now: the put may still be under
// way somewhere, and only an abort marker ends that. An object that cannot be
// believed is errs.Corrupt.
func (d *Domain) ResolveSnapshot(ctx context.Context, instance InstanceID, job JobID, fence Fence, hash [32]byte) (PutResult, error) {
	result, _, err := d.resolve(ctx, instance, job, fence, hash)
	if err != nil {
		return PutResult{}, fmt.Errorf("resolve snapshot %s: %w", job, err)
	}
	return result, nil
}

func (d *Domain) resolve(ctx context.Context, instance InstanceID, job JobID, fence Fence, hash [32]byte) (PutResult, *Snapshot, error) {
	raw, err := blob.ReadAll(ctx, d.repo.store, SnapshotObject(instance, job), MaxSnapshotBytes)
	if errors.Is(err, errs.NotFound) {
		return PutResult{}, nil, nil
	}
	if err != nil {
		return PutResult{}, nil, err
	}
	s, err := d.decode(raw, instance, job)
	if err != nil {
		return PutResult{}, nil, err
	}
	result := PutResult{Header: s.Header, Hash: sha256.Sum256(raw)}
	switch {
	case s.Header.State == SnapshotAborted:
		result.Outcome = OutcomeAborted
	case result.Hash == hash:
		result.Outcome = OutcomeDone
	default:
		result.Outcome = OutcomeSuperseded
	}
	return result, s, nil
}

// decode takes a snapshot object of this domain apart and verifies all of it
// that can be verified without opening its parts.
func (d *Domain) decode(raw []byte, instance InstanceID, job JobID) (*Snapshot, error) {
	key := SnapshotObject(instance, job)
	s, err := DecodeSnapshot(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if s.Header.Instance != instance || s.Header.Job != job || s.Header.Domain != d.id || s.Commit.Repository != d.repo.ID() {
		return nil, fmt.Errorf("%s: holds snapshot %s of domain %x in repository %s: %w",
			key, SnapshotObject(s.Header.Instance, s.Header.Job), s.Header.Domain, s.Commit.Repository, errs.Corrupt)
	}
	if err := s.VerifyCommit(d.keys.Commit()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

// pause waits about d, between half of it and all of it.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return blob.Canceled(ctx)
	case <-timer.C:
		return nil
	}
}

var _ blob.Body = (*PreparedSnapshot)(nil)

// Open reads the object from its first byte.
func (p *PreparedSnapshot) Open() (io.ReadCloser, error) { return p.body.Open() }
