package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Open reads a range of an object; see blob.Store. The range is always named, so
// that the answer tells the object's size and which bytes it holds.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := begin(ctx, key); err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	r, err := s.open(ctx, key, "", offset, length)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", s.show(key), err)
	}
	return r, nil
}

// open reads the newest version, or the one named.
func (s *Store) open(ctx context.Context, key, version string, offset, length int64) (io.ReadCloser, error) {
	if _, err := blob.CheckRange(s.show(key), math.MaxInt64, offset, length); err != nil {
		return nil, err
	}
	if length == 0 {
		return s.nothing(ctx, key, version, offset, length)
	}
	span := fmt.Sprintf("bytes=%d-", offset)
	if length > 0 {
		span += fmt.Sprint(offset + length - 1)
	}
	w := s.watch(ctx, baseTime)
	in := &s3.GetObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.prefix + key), Range: aws.String(span)}
	if version != "" {
		in.VersionId = aws.String(version)
	}
	out, err := s.client.GetObject(w.ctx, in)
	if err != nil {
		defer w.end()
		switch a := answerOf(err); {
		case a.noObject(), version != "" && a.status == http.StatusNotFound && a.code == "NoSuchVersion":
			return nil, errs.NotFound
		case a.status == http.StatusRequestedRangeNotSatisfiable:
			return s.nothing(ctx, key, version, offset, length) // also the answer for an empty object
		}
		return nil, s.judge(ctx, w, err)
	}
	w.pause()
	n, err := given(out, s.show(key), offset, length)
	if err != nil {
		w.end()
		return nil, errors.Join(err, out.Body.Close())
	}
	return &reader{store: s, ctx: ctx, watch: w, key: key, body: out.Body, left: n}, nil
}

// nothing is the reader of an empty range, if it is within the object.
func (s *Store) nothing(ctx context.Context, key, version string, offset, length int64) (io.ReadCloser, error) {
	info, err := s.stat(ctx, s.prefix+key, version)
	if err != nil {
		return nil, err
	}
	n, err := blob.CheckRange(s.show(key), info.Size, offset, length)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return nil, fmt.Errorf("the store refuses a range within the object: %w", errs.Unavailable)
	}
	return &reader{store: s, ctx: ctx, watch: s.ended(ctx), key: key, body: io.NopCloser(bytes.NewReader(nil))}, nil
}

// ended is a watch over nothing.
func (s *Store) ended(ctx context.Context) *watch {
	w := s.watch(ctx, baseTime)
	w.end()
	return w
}

// given checks that an answer is what was asked for and tells how many bytes it
// has to give.
func given(out *s3.GetObjectOutput, name string, offset, length int64) (int64, error) {
	has := aws.ToInt64(out.ContentLength)
	if out.ContentLength == nil || aws.ToString(out.ETag) == "" {
		return 0, fmt.Errorf("the store's answer is no object: %w", errs.Unavailable)
	}
	first, last, size := int64(0), has-1, has // a service may give the whole instead
	if text := aws.ToString(out.ContentRange); text != "" {
		if n, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil {
			return 0, fmt.Errorf("the store's answer has an unknown range %q: %w", text, errs.Unavailable)
		}
	}
	n, err := blob.CheckRange(name, size, offset, length)
	if err != nil {
		return 0, err
	}
	if first != offset || last < offset+n-1 || has != last-first+1 {
		return 0, fmt.Errorf("the store gives %d bytes at %d of %d, asked for %d at %d: %w", has, first, size, n, offset, errs.Unavailable)
	}
	return n, nil
}

// reader gives exactly the bytes asked for. It fails when its context ends, when
// nothing comes for too long and when the stream ends early.
type reader struct {
	store  *Store
	ctx    context.Context // of the one call that the reader belongs to
	watch  *watch
	key    string
	body   io.ReadCloser
	left   int64
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, errClosed
	}
	if err := blob.Canceled(r.ctx); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	r.watch.moved()
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.watch.pause()
	r.left -= int64(n)
	switch {
	case r.left == 0:
		return n, nil // whatever else the stream says
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
		fallthrough
	case err != nil:
		return n, fmt.Errorf("read object %s: %d bytes before the end: %w", r.store.show(r.key), r.left, r.store.judge(r.ctx, r.watch, err))
	}
	return n, nil
}

// Close frees the connection; what was not read is dropped with it.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.watch.end()
	_ = r.body.Close() // says no more than the reads did
	return nil
}
