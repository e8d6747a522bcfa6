// Package s3 is a blob.Store in a bucket of an S3 service. An object is one PUT
// with If-None-Match: *, so the service decides which of two creates wins; there
// are no parts, no copies and no renames.
//
// The service must really decide that, show what was written at once, and list
// in byte order: Open tries it out and refuses a service that does not. What
// else a service does with bytes (replicas, versions, locks) is its own affair.
//
// Errors are not retried here: blob.Retry around the store does that, and reads
// back what a lost answer leaves open.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Store keeps objects in a bucket.
type Store struct {
	client      *s3.Client
	deleter     *s3.Client // the same, unless deletes have credentials of their own
	transport   *http.Transport
	credentials *remembered
	deleting    *remembered // nil when there are none
	clock       clock
	config      Config
	bucket      string
	prefix      string // ends with "/", or is empty
	location    string
	stall       time.Duration
	page        int32 // keys or versions in one answer
	found       features
}

var (
	_ blob.Store     = (*Store)(nil)
	_ blob.Locker    = (*Store)(nil)
	_ blob.Versioned = (*Store)(nil)
)

// Open connects to a store and tries it out, with objects of its own that it
// removes and that List never gives. Errors: errs.Invalid for what cannot be or
// names another region, errs.NotFound when there is no such bucket, errs.Denied
// without sufficient credentials, errs.Unsupported for a service whose creates
// are not atomic or whose reads are stale, errs.Unavailable for what may pass.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.prove(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", s.location, err)
	}
	return s, nil
}

// OpenReadOnly is Open for somebody who only reads: it looks whether the bucket
// can be listed, and tries nothing out.
func OpenReadOnly(ctx context.Context, c Config) (*Store, error) {
	c.DeleteCredentials, c.LockMode, c.LockDays = "", "", 0 // it does neither
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	err = s.reach(ctx)
	if err == nil {
		s.found.versions, err = s.versioned(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", s.location, err)
	}
	return s, nil
}

func open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Store{config: c, bucket: c.Bucket, prefix: c.prefix(), location: c.location(), stall: c.Stall, page: pageKeys}
	if s.stall <= 0 {
		s.stall = standardStall
	}
	if err := s.connect(ctx, c); err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.location, err)
	}
	return s, nil
}

// Close lets go of connections that are not in use. The store can still be used.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// Stat tells an object's size and time; see blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := begin(ctx, key); err != nil {
		return blob.Info{}, fmt.Errorf("stat object: %w", err)
	}
	info, err := s.stat(ctx, s.prefix+key, "")
	if err != nil {
		return blob.Info{}, fmt.Errorf("stat object %s: %w", s.show(key), err)
	}
	info.Key = key
	return info, nil
}

// stat looks at the newest version, or the one named.
func (s *Store) stat(ctx context.Context, name, version string) (blob.Info, error) {
	w := s.watch(ctx, baseTime)
	defer w.end()
	in := &s3.HeadObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(name)}
	if version != "" {
		in.VersionId = aws.String(version)
	}
	out, err := s.client.HeadObject(w.ctx, in)
	switch {
	case err != nil && answerOf(err).status == http.StatusNotFound:
		// The answer to a HEAD has no body that tells which of the two is missing.
		return blob.Info{}, s.missing(ctx, w)
	case err != nil:
		return blob.Info{}, s.judge(ctx, w, err)
	case out.ContentLength == nil || aws.ToString(out.ETag) == "":
		return blob.Info{}, fmt.Errorf("the store's answer has no size or no tag: %w", errs.Unavailable)
	}
	return blob.Info{Size: *out.ContentLength, Modified: aws.ToTime(out.LastModified)}, nil
}

// missing tells a missing object from a missing bucket: without this, every
// object of a bucket that is gone would be "not found".
func (s *Store) missing(ctx context.Context, w *watch) error {
	_, err := s.client.HeadBucket(w.ctx, &s3.HeadBucketInput{Bucket: aws.String(s.bucket)})
	if err == nil {
		return errs.NotFound
	}
	switch a := answerOf(err); a.status {
	case http.StatusForbidden:
		return errs.NotFound // it is there, and who may not list it may still read it
	case http.StatusNotFound:
		return fmt.Errorf("the bucket is gone: %w", errs.Unavailable)
	}
	return s.judge(ctx, w, err)
}

// List calls fn for objects in order of their keys, a page of 1,000 at a time;
// see blob.Store. What is in the bucket and cannot be a key is passed over.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := blob.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	if after > prefix && !strings.HasPrefix(after, prefix) {
		return blob.Canceled(ctx) // after is behind everything that starts with prefix
	}
	in := &s3.ListObjectsV2Input{Bucket: aws.String(s.bucket), Prefix: aws.String(s.prefix + prefix), MaxKeys: aws.Int32(s.page)}
	if after > prefix {
		in.StartAfter = aws.String(s.prefix + after)
	}
	last := after
	for {
		page, err := s.listPage(ctx, in)
		if err != nil {
			return fmt.Errorf("list objects %s: %w", s.show(prefix), err)
		}
		for _, o := range page.Contents {
			info, err := s.listed(aws.ToString(o.Key), prefix)
			if err != nil {
				return fmt.Errorf("list objects %s: %w", s.show(prefix), err)
			}
			if info.Key == "" || info.Key <= after {
				continue
			}
			if info.Key <= last {
				return fmt.Errorf("list objects %s: %q comes after %q, the service does not list in byte order: %w", s.show(prefix), info.Key, last, errs.Corrupt)
			}
			if err := blob.Canceled(ctx); err != nil {
				return fmt.Errorf("list objects %s: %w", s.show(prefix), err)
			}
			last = info.Key
			info.Size, info.Modified = aws.ToInt64(o.Size), aws.ToTime(o.LastModified)
			if err := fn(info); err != nil {
				return err
			}
		}
		if !*page.IsTruncated {
			return nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// pageKeys is the most that S3 gives in one answer.
const pageKeys = 1000

// listPage gets one page. A page that is none (an error in the clothes of a list, or
// one that leads nowhere) must not be taken for the end of the list.
func (s *Store) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	if err := blob.Canceled(ctx); err != nil {
		return nil, err
	}
	w := s.watch(ctx, baseTime)
	defer w.end()
	page, err := s.client.ListObjectsV2(w.ctx, in)
	if err != nil {
		return nil, s.judge(ctx, w, err)
	}
	if page.IsTruncated == nil {
		return nil, fmt.Errorf("the store's answer is no list: %w", errs.Unavailable)
	}
	next := aws.ToString(page.NextContinuationToken)
	if *page.IsTruncated && (next == "" || next == aws.ToString(in.ContinuationToken)) {
		return nil, fmt.Errorf("the store's list goes on but does not say where: %w", errs.Unavailable)
	}
	return page, nil
}

// listed judges one name of a page; the key is empty for what is no key.
func (s *Store) listed(name, prefix string) (blob.Info, error) {
	key, ok := strings.CutPrefix(name, s.prefix)
	if !ok || !strings.HasPrefix(key, prefix) {
		return blob.Info{}, fmt.Errorf("the store lists %q, which was not asked for: %w", name, errs.Corrupt)
	}
	if blob.CheckKey(key) != nil {
		return blob.Info{}, nil
	}
	return blob.Info{Key: key}, nil
}

// begin checks key and context.
func begin(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	return blob.Canceled(ctx)
}

// show names a key for people: whole, with its bucket.
func (s *Store) show(key string) string { return s.bucket + "/" + s.prefix + key }

var errClosed = errors.New("read of a closed object")
