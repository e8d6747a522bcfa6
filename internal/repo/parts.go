package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The bounds of the content part (docs/FORMAT.md, "Content").
const (
	// MaxContentBytes is the greatest length of the content as JSON: about 600
	// thousand tables, each with a run, in one snapshot.
	MaxContentBytes = 256 << 20
	// MaxSealedContent is the greatest length of the sealed content part. JSON of
	// tables compresses more than fourfold.
	MaxSealedContent = 64 << 20
	// MaxSealedReferences is the greatest length of the sealed references part.
	MaxSealedReferences = MaxReferencesBytes + sealOverhead

	contentVersion = 1
	// contentMemory is about what a decoded content may take.
	contentMemory = 1 << 30
	// contentWindow bounds the buffers of the decompressor: our encoder's windows
	// are smaller.
	contentWindow = 16 << 20
	// sealOverhead is the nonce and the tag of a sealed blob.
	sealOverhead = 28
)

// The purposes under which parts are sealed.
const (
	purposeReferences = "references"
	purposeContent    = "content"
)

// partAAD binds a part to the domain and the snapshot it is of, so that no part
// can be taken for that of another snapshot. It does not bind it to the
// repository: a domain can move without being sealed anew.
func partAAD(domain seal.DomainID, job JobID) []byte {
	return append(bytes.Clone(domain[:]), job[:]...)
}

// SealReferences makes the references part of the snapshot that job makes.
// refsKey is the domain's K_refs.
func SealReferences(r *References, refsKey seal.Key, domain seal.DomainID, job JobID) ([]byte, error) {
	plain, err := EncodeReferences(r)
	if err != nil {
		return nil, err
	}
	return seal.SealBlob(refsKey, purposeReferences, partAAD(domain, job), plain)
}

// OpenReferences opens what SealReferences made. Any difference is errs.Corrupt.
func OpenReferences(sealed []byte, refsKey seal.Key, domain seal.DomainID, job JobID) (*References, error) {
	if len(sealed) > MaxSealedReferences {
		return nil, fmt.Errorf("open references: %d bytes: %w", len(sealed), errs.Corrupt)
	}
	plain, err := seal.OpenBlob(refsKey, purposeReferences, partAAD(domain, job), sealed)
	if err != nil {
		return nil, fmt.Errorf("open references: %w", err)
	}
	return DecodeReferences(plain)
}

// SealContent makes the content part of the snapshot that job makes. sealKey is
// the domain's K_seal of the epoch that the snapshot's header names.
func SealContent(c *Content, sealKey seal.Key, domain seal.DomainID, job JobID) ([]byte, error) {
	packed, err := EncodeContent(c)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.SealBlob(sealKey, purposeContent, partAAD(domain, job), packed)
	if err != nil {
		return nil, fmt.Errorf("seal content: %w", err)
	}
	if len(sealed) > MaxSealedContent {
		return nil, fmt.Errorf("seal content: %d bytes, at most %d: %w", len(sealed), MaxSealedContent, errs.Exhausted)
	}
	return sealed, nil
}

// OpenContent opens what SealContent made. Any difference is errs.Corrupt. What
// it says is not checked: see Content.Validate.
func OpenContent(sealed []byte, sealKey seal.Key, domain seal.DomainID, job JobID) (*Content, error) {
	if len(sealed) > MaxSealedContent {
		return nil, fmt.Errorf("open content: %d bytes: %w", len(sealed), errs.Corrupt)
	}
	packed, err := seal.OpenBlob(sealKey, purposeContent, partAAD(domain, job), sealed)
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	return DecodeContent(packed)
}

// EncodeContent gives c as compressed JSON. It sets c.Version. A content that
// DecodeContent would refuse for its size is errs.Exhausted.
func EncodeContent(c *Content) ([]byte, error) {
	c.Version = contentVersion
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode content: %w: %w", err, errs.Invalid)
	}
	if len(text) > MaxContentBytes {
		return nil, fmt.Errorf("encode content: %d bytes, at most %d: %w", len(text), MaxContentBytes, errs.Exhausted)
	}
	if err := checkJSON(text, contentMemory); err != nil {
		return nil, fmt.Errorf("encode content: %w: %w", err, errs.Exhausted)
	}
	w, err := newEncoder()
	if err != nil {
		return nil, fmt.Errorf("encode content: %w", err)
	}
	packed := w.EncodeAll(text, nil)
	return packed, w.Close()
}

// DecodeContent reads what EncodeContent gives. Text that is larger, deeper or
// costlier than its bounds, that has unknown fields or anything after its end is
// errs.Corrupt; a newer version is errs.Unsupported.
func DecodeContent(packed []byte) (*Content, error) {
	text, err := inflate(packed, MaxContentBytes)
	if err != nil {
		return nil, fmt.Errorf("decode content: %w: %w", err, errs.Corrupt)
	}
	if err := checkJSON(text, contentMemory); err != nil {
		return nil, fmt.Errorf("decode content: %w: %w", err, errs.Corrupt)
	}
	// The version first: a later one may have fields that this program does not know.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("decode content: %w: %w", err, errs.Corrupt)
	}
	if v.Version > contentVersion {
		return nil, fmt.Errorf("decode content: version %d: %w", v.Version, errs.Unsupported)
	}
	c := new(Content)
	if err := strictJSON(text, c); err != nil {
		return nil, fmt.Errorf("decode content: %w: %w", err, errs.Corrupt)
	}
	if c.Version != contentVersion {
		return nil, fmt.Errorf("decode content: version %d: %w", c.Version, errs.Corrupt)
	}
	return c, nil
}

// newEncoder makes an encoder for EncodeAll, whose windows inflate accepts.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(contentWindow/2))
}

// inflate decompresses at most limit bytes. It reads on as bytes come out and
// trusts no length that the input claims.
func inflate(packed []byte, limit int64) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(contentWindow), zstd.WithDecoderMaxMemory(uint64(limit)+1))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return text, nil
}

// strictJSON decodes text that must be one value without unknown fields.
func strictJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}
