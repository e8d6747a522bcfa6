package repo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The sizes and magics of a snapshot object (docs/FORMAT.md, "Snapshot object").
const (
	snapshotMagic   = "TVS1"
	snapshotVersion = 1
	// SnapshotHeaderSize is the length of the clear header in bytes.
	SnapshotHeaderSize = 96

	commitMagic      = "TVK1"
	commitRecordSize = 180
	// MaxSnapshotBytes is the greatest length of a snapshot object.
	MaxSnapshotBytes = SnapshotHeaderSize + MaxSealedReferences + MaxSealedContent + commitRecordSize
)

// SnapshotState tells a snapshot from the marker of one that was given up.
type SnapshotState byte

// The states. The numbers are stored.
const (
	// SnapshotCommitted is a snapshot.
	SnapshotCommitted SnapshotState = 1
	// SnapshotAborted is an abort marker: this job never makes a snapshot.
	SnapshotAborted SnapshotState = 2
)

// kindCodes are the numbers that are stored for kinds of snapshots.
var kindCodes = map[SnapshotKind]byte{KindLogical: 1}

// SnapshotHeader is the clear beginning of a snapshot object. Its ids are bound
// by the commit record's MAC.
type SnapshotHeader struct {
	State SnapshotState
	// Kind is empty in an abort marker.
	Kind SnapshotKind
	// Complete tells that every database asked for is completely in it.
	Complete bool
	Domain   seal.DomainID
	Instance InstanceID
	// Job is also the snapshot's id.
	Job JobID
	// Fence is that of the attempt that made it.
	Fence Fence
	// SealEpoch is that of the content part; 0 in an abort marker. No chunk of the
	// snapshot has a later one.
	SealEpoch uint32
	// ReferencesBytes and ContentBytes are the lengths of the sealed parts.
	ReferencesBytes, ContentBytes int64
}

// Size is the length of the whole object.
func (h SnapshotHeader) Size() int64 {
	return SnapshotHeaderSize + h.ReferencesBytes + h.ContentBytes + commitRecordSize
}

// Commit is the controller's record of how a snapshot came into being.
type Commit struct {
	// Repository in which it came into being.
	Repository RepositoryID
	// Agent that made it, and the SHA-256 of the certificate it did so with.
	Agent       AgentID
	Certificate [32]byte
	// Time by the controller's clock, in whole microseconds, UTC.
	Time time.Time
	// LogNumber is the newest record of the catalog log at that time.
	LogNumber uint64
}

// Snapshot is a snapshot object taken apart. Its parts are still sealed.
type Snapshot struct {
	Header     SnapshotHeader
	References []byte
	Content    []byte
	Commit     Commit

	commitMAC [32]byte
	signed    []byte // what the MAC is over
}

// OpenReferences opens the references part with the domain's K_refs.
func (s *Snapshot) OpenReferences(refsKey seal.Key) (*References, error) {
	r, err := OpenReferences(s.References, refsKey, s.Header.Domain, s.Header.Job)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", s.Header.Job, err)
	}
	return r, nil
}

// OpenContent opens the content part with the domain's K_seal of the header's
// SealEpoch, and validates it against refs.
func (s *Snapshot) OpenContent(sealKey seal.Key, refs *References) (*Content, error) {
	c, err := OpenContent(s.Content, sealKey, s.Header.Domain, s.Header.Job)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", s.Header.Job, err)
	}
	if err := c.Validate(refs); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", s.Header.Job, err)
	}
	return c, nil
}

// VerifyCommit checks the commit record's MAC, which binds header, ids, hashes
// of both parts and the repository. A wrong one is errs.Corrupt.
func (s *Snapshot) VerifyCommit(commitKey seal.Key) error {
	if mac := commitMAC(commitKey, s.signed); !hmac.Equal(mac[:], s.commitMAC[:]) {
		return fmt.Errorf("snapshot %s: commit record does not verify: %w", s.Header.Job, errs.Corrupt)
	}
	return nil
}

// DecodeSnapshotHeader reads the first SnapshotHeaderSize bytes of a snapshot
// object. What cannot be is errs.Corrupt, a newer version or kind
// errs.Unsupported.
func DecodeSnapshotHeader(b []byte) (SnapshotHeader, error) {
	var h SnapshotHeader
	d := decoder{rest: b[:min(len(b), SnapshotHeaderSize)]}
	if !d.magic(snapshotMagic) {
		return h, fmt.Errorf("decode snapshot header: not a snapshot: %w", errs.Corrupt)
	}
	version, state, kind, flags := d.u8(), d.u8(), d.u8(), d.u8()
	if version > snapshotVersion {
		return h, fmt.Errorf("decode snapshot header: version %d: %w", version, errs.Unsupported)
	}
	d.fill(h.Domain[:])
	d.fill(h.Instance[:])
	d.fill(h.Job[:])
	h.Fence = Fence{Epoch: d.u64(), Counter: d.u64()}
	h.SealEpoch = d.u32()
	record := d.u32()
	// A value beyond int64 becomes negative and is refused by check.
	h.ReferencesBytes, h.ContentBytes = int64(d.u64()), int64(d.u64())
	if err := d.finish(); err != nil {
		return h, fmt.Errorf("decode snapshot header: %w", err)
	}
	h.State, h.Complete = SnapshotState(state), flags&1 != 0
	known := kind == 0
	for k, code := range kindCodes {
		if code == kind {
			h.Kind, known = k, true
		}
	}
	if !known {
		return h, fmt.Errorf("decode snapshot header: kind %d: %w", kind, errs.Unsupported)
	}
	if version != snapshotVersion || record != commitRecordSize || flags > 1 {
		return h, fmt.Errorf("decode snapshot header: version %d, record of %d bytes, flags %#x: %w", version, record, flags, errs.Corrupt)
	}
	if err := h.check(); err != nil {
		return h, fmt.Errorf("decode snapshot header: %w: %w", err, errs.Corrupt)
	}
	return h, nil
}

// check tells why a header cannot be; the caller gives the error its kind.
func (h SnapshotHeader) check() error {
	switch {
	case h.ReferencesBytes < 0 || h.ReferencesBytes > MaxSealedReferences:
		return fmt.Errorf("references of %d bytes", h.ReferencesBytes)
	case h.ContentBytes < 0 || h.ContentBytes > MaxSealedContent:
		return fmt.Errorf("content of %d bytes", h.ContentBytes)
	case h.State == SnapshotCommitted:
		if h.Kind == "" || h.SealEpoch == 0 || h.ReferencesBytes < sealOverhead || h.ContentBytes < sealOverhead {
			return fmt.Errorf("kind %q, seal epoch %d, parts of %d and %d bytes", h.Kind, h.SealEpoch, h.ReferencesBytes, h.ContentBytes)
		}
	case h.State == SnapshotAborted:
		if h.Kind != "" || h.Complete || h.SealEpoch != 0 || h.ReferencesBytes != 0 || h.ContentBytes != 0 {
			return fmt.Errorf("an abort marker with kind %q, seal epoch %d, parts of %d and %d bytes", h.Kind, h.SealEpoch, h.ReferencesBytes, h.ContentBytes)
		}
	default:
		return fmt.Errorf("state %d", h.State)
	}
	return nil
}

func (h SnapshotHeader) encode() []byte {
	var flags byte
	if h.Complete {
		flags = 1
	}
	b := make([]byte, 0, SnapshotHeaderSize)
	b = append(b, snapshotMagic...)
	b = append(b, snapshotVersion, byte(h.State), kindCodes[h.Kind], flags)
	b = append(b, h.Domain[:]...)
	b = append(b, h.Instance[:]...)
	b = append(b, h.Job[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Fence.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Fence.Counter)
	b = binary.BigEndian.AppendUint32(b, h.SealEpoch)
	b = binary.BigEndian.AppendUint32(b, commitRecordSize)
	b = binary.BigEndian.AppendUint64(b, uint64(h.ReferencesBytes))
	return binary.BigEndian.AppendUint64(b, uint64(h.ContentBytes))
}

// encodeCommit gives the commit record up to its MAC.
func encodeCommit(c Commit, references, content [32]byte) []byte {
	b := make([]byte, 0, commitRecordSize)
	b = append(b, commitMagic...)
	b = append(b, c.Repository[:]...)
	b = append(b, c.Agent[:]...)
	b = append(b, c.Certificate[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, c.LogNumber)
	b = append(b, references[:]...)
	return append(b, content[:]...)
}

func commitMAC(key seal.Key, signed []byte) (mac [32]byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write(signed) // never fails
	h.Sum(mac[:0])
	return mac
}

// DecodeSnapshot takes a whole snapshot object apart. It needs no key: it checks
// lengths and the hashes of both parts. What differs is errs.Corrupt. The parts
// returned are within raw.
func DecodeSnapshot(raw []byte) (*Snapshot, error) {
	h, err := DecodeSnapshotHeader(raw)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != h.Size() {
		return nil, fmt.Errorf("decode snapshot %s: %d bytes, its header says %d: %w", h.Job, len(raw), h.Size(), errs.Corrupt)
	}
	s := &Snapshot{Header: h}
	d := decoder{rest: raw[SnapshotHeaderSize:]}
	s.References, s.Content = d.take(int(h.ReferencesBytes)), d.take(int(h.ContentBytes))
	s.signed = append(append([]byte(nil), raw[:SnapshotHeaderSize]...), d.rest[:commitRecordSize-32]...)
	var references, content [32]byte
	if !d.magic(commitMagic) {
		return nil, fmt.Errorf("decode snapshot %s: no commit record: %w", h.Job, errs.Corrupt)
	}
	d.fill(s.Commit.Repository[:])
	d.fill(s.Commit.Agent[:])
	d.fill(s.Commit.Certificate[:])
	s.Commit.Time = time.UnixMicro(int64(d.u64())).UTC()
	s.Commit.LogNumber = d.u64()
	d.fill(references[:])
	d.fill(content[:])
	d.fill(s.commitMAC[:])
	if err := d.finish(); err != nil {
		return nil, fmt.Errorf("decode snapshot %s: %w", h.Job, err)
	}
	if sha256.Sum256(s.References) != references {
		return nil, fmt.Errorf("decode snapshot %s: references differ from their hash: %w", h.Job, errs.Corrupt)
	}
	if sha256.Sum256(s.Content) != content {
		return nil, fmt.Errorf("decode snapshot %s: content differs from its hash: %w", h.Job, errs.Corrupt)
	}
	return s, nil
}
