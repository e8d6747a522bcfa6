package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// maxObject is the largest object of a single PUT. Packs have some 65 MiB.
const maxObject = 5 << 30

// Create writes a new object; see blob.Store.
//
// Steps, and what a crash after each leaves:
//  1. The body is read once for its SHA-256: nothing.
//  2. One PUT, on condition that the key does not exist: the whole object or
//     nothing. The service compares what it got with the SHA-256, which is in the
//     signature and in a header of its own.
//
// When no answer comes (errs.Unavailable) the object may exist, now or later.
func (s *Store) Create(ctx context.Context, key string, body blob.Body) error {
	if err := begin(ctx, key); err != nil {
		return fmt.Errorf("create object: %w", err)
	}
	if _, err := s.create(ctx, key, body); err != nil {
		return fmt.Errorf("create object %s: %w", s.show(key), err)
	}
	return nil
}

// create puts an object on condition that there is none.
func (s *Store) create(ctx context.Context, key string, body blob.Body) (made, error) {
	return s.put(ctx, key, body, true)
}

// made is what the service says of a new object.
type made struct {
	version    string // empty in a bucket without versions
	encryption string
	tag        string
}

// put puts an object below the prefix; fresh is on condition that there is none.
func (s *Store) put(ctx context.Context, key string, body blob.Body, fresh bool) (made, error) {
	if body.Size() > maxObject {
		return made{}, fmt.Errorf("%d bytes, a single put takes %d: %w", body.Size(), int64(maxObject), errs.Invalid)
	}
	hashing := &hashing{ctx: ctx, Hash: sha256.New()}
	if err := blob.CopyBody(hashing, body); err != nil {
		return made{}, err
	}
	sum := hashing.Sum(nil)
	if err := blob.Canceled(ctx); err != nil {
		return made{}, err
	}
	inner, err := body.Open()
	if err != nil {
		return made{}, err
	}
	w := s.watch(ctx, putTime(body.Size()))
	defer w.end()
	up := &upload{inner: inner, left: body.Size(), watch: w}
	in := s.putInput(key, sum, fresh)
	in.Body, in.ContentLength = up, aws.Int64(body.Size())
	out, err := s.client.PutObject(w.ctx, in, s3.WithAPIOptions(payloadHash(sum)))
	bodyErr := up.end()
	switch {
	case err != nil && bodyErr != nil && blob.Canceled(ctx) == nil:
		return made{}, fmt.Errorf("the body broke off: %w", bodyErr) // so nothing was made
	case err != nil && answerOf(err).status == http.StatusPreconditionFailed:
		return made{}, errs.Exists
	case err != nil:
		return made{}, s.judge(ctx, w, err)
	case aws.ToString(out.ETag) == "":
		// Some services say 200 at once and put an error where the answer would be.
		return made{}, fmt.Errorf("the store's answer is no confirmation: %w", errs.Unavailable)
	case out.ChecksumSHA256 != nil && *out.ChecksumSHA256 != aws.ToString(in.ChecksumSHA256):
		return made{}, fmt.Errorf("the store confirms other bytes than were sent: %w", errs.Unavailable)
	}
	return made{version: aws.ToString(out.VersionId), encryption: string(out.ServerSideEncryption), tag: *out.ETag}, nil
}

// putInput is what is said about an object besides its bytes.
func (s *Store) putInput(key string, sum []byte, fresh bool) *s3.PutObjectInput {
	in := &s3.PutObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.prefix + key), ContentType: aws.String("application/octet-stream"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		StorageClass:   types.StorageClass(s.config.StorageClass), ServerSideEncryption: types.ServerSideEncryption(s.config.Encryption)}
	if fresh {
		in.IfNoneMatch = aws.String("*")
	}
	if s.config.EncryptionKey != "" {
		in.SSEKMSKeyId = aws.String(s.config.EncryptionKey)
	}
	if blob.CheckKey(key) == nil { // a probe is not locked: it has to go
		s.lockNew(in, key)
	}
	return in
}

// payloadHash signs a body with a SHA-256 that is known: every service checks
// it, and the SDK would read the body once more, or over TLS not sign it at all.
func payloadHash(sum []byte) func(*middleware.Stack) error {
	text := hex.EncodeToString(sum)
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("PayloadHash", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, text), in)
		}), middleware.Before)
	}
}

// hashing ends a long body with its context.
type hashing struct {
	hash.Hash
	ctx context.Context // of the one call that hashes
}

func (h *hashing) Write(p []byte) (int, error) {
	if err := blob.Canceled(h.ctx); err != nil {
		return 0, err
	}
	return h.Hash.Write(p)
}

// upload is a body on its way. net/http may still read it when the answer is
// there: after end it gives nothing, so that the caller has its bytes back.
type upload struct {
	mu    sync.Mutex
	inner io.ReadCloser // nil after end
	left  int64
	watch *watch
	err   error // of the body itself
}

var errEnded = errors.New("the request has ended")

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.inner == nil {
		return 0, errEnded
	}
	n, err := u.inner.Read(p)
	if u.left -= int64(n); u.left > 0 {
		u.watch.moved()
	} else {
		u.watch.sent()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

// end closes the body and tells whether reading it failed.
func (u *upload) end() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.inner.Close() // it was only read
	u.inner = nil
	return u.err
}
