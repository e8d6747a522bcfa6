package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Versions calls fn for versions and deletions, a page of 1,000 at a time; see
// blob.Versioned.
func (s *Store) Versions(ctx context.Context, prefix, after string, fn func(blob.Version) error) error {
	if err := blob.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list versions: %w", err)
	}
	if after > prefix && !strings.HasPrefix(after, prefix) {
		return blob.Canceled(ctx) // after is behind everything that starts with prefix
	}
	last := after
	var stop error
	err := s.eachVersion(ctx, s.prefix+prefix, after, func(_ string, v blob.Version) error {
		if v.Key == "" || v.Key <= after {
			return nil
		}
		if v.Key < last {
			return fmt.Errorf("%q comes after %q, the service does not list in byte order: %w", v.Key, last, errs.Corrupt)
		}
		if err := blob.Canceled(ctx); err != nil {
			return err
		}
		last = v.Key
		stop = fn(v)
		return stop
	})
	if err != nil && stop == nil {
		return fmt.Errorf("list versions %s: %w", s.show(prefix), err)
	}
	return err
}

// eachVersion gives everything whose name starts with prefix, by its whole name
// and, where that is one, its key. Names up to after may be given too.
func (s *Store) eachVersion(ctx context.Context, prefix, after string, fn func(name string, v blob.Version) error) error {
	in := &s3.ListObjectVersionsInput{Bucket: aws.String(s.bucket), Prefix: aws.String(prefix), MaxKeys: aws.Int32(s.page)}
	if s.prefix+after > prefix {
		in.KeyMarker = aws.String(s.prefix + after)
	}
	for {
		page, err := s.versionPage(ctx, in)
		if err != nil {
			return err
		}
		for _, e := range merged(page) {
			if !strings.HasPrefix(e.name, prefix) {
				return fmt.Errorf("the store lists %q, which was not asked for: %w", e.name, errs.Corrupt)
			}
			if e.ID == "" {
				return fmt.Errorf("the store lists %q without its version: %w", e.name, errs.Unavailable)
			}
			if e.Key = strings.TrimPrefix(e.name, s.prefix); blob.CheckKey(e.Key) != nil {
				e.Key = ""
			}
			if err := fn(e.name, e.Version); err != nil {
				return err
			}
		}
		if !*page.IsTruncated {
			return nil
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
}

// versionPage gets one page; like listPage it takes no answer for the end that is none.
func (s *Store) versionPage(ctx context.Context, in *s3.ListObjectVersionsInput) (*s3.ListObjectVersionsOutput, error) {
	if err := blob.Canceled(ctx); err != nil {
		return nil, err
	}
	w := s.watch(ctx, baseTime)
	defer w.end()
	page, err := s.client.ListObjectVersions(w.ctx, in)
	if err != nil {
		return nil, s.judge(ctx, w, err)
	}
	if page.IsTruncated == nil {
		return nil, fmt.Errorf("the store's answer is no list: %w", errs.Unavailable)
	}
	key, version := aws.ToString(page.NextKeyMarker), aws.ToString(page.NextVersionIdMarker)
	if *page.IsTruncated && (key == "" || key == aws.ToString(in.KeyMarker) && version == aws.ToString(in.VersionIdMarker)) {
		return nil, fmt.Errorf("the store's list goes on but does not say where: %w", errs.Unavailable)
	}
	return page, nil
}

// listedVersion is one entry of a page.
type listedVersion struct {
	blob.Version
	name   string
	latest bool
}

// merged brings the two lists of a page, versions and delete markers, into one
// order. The service's own is lost with the XML; within a second, to which some
// services cut the times of versions, a version counts as newer than a marker,
// unless the service says which is the latest.
func merged(page *s3.ListObjectVersionsOutput) []listedVersion {
	all := make([]listedVersion, 0, len(page.Versions)+len(page.DeleteMarkers))
	add := func(key, id *string, modified *time.Time, latest *bool, size *int64, deletion bool) {
		all = append(all, listedVersion{name: aws.ToString(key), latest: aws.ToBool(latest),
			Version: blob.Version{ID: aws.ToString(id), Modified: aws.ToTime(modified).Truncate(time.Second), Size: aws.ToInt64(size), Deletion: deletion}})
	}
	for _, v := range page.Versions {
		add(v.Key, v.VersionId, v.LastModified, v.IsLatest, v.Size, false)
	}
	for _, m := range page.DeleteMarkers {
		add(m.Key, m.VersionId, m.LastModified, m.IsLatest, nil, true)
	}
	slices.SortStableFunc(all, func(a, b listedVersion) int {
		return cmp.Or(cmp.Compare(a.name, b.name), number(b.latest)-number(a.latest), b.Modified.Compare(a.Modified), number(a.Deletion)-number(b.Deletion))
	})
	return all
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// OpenVersion reads a range of one version; see blob.Versioned.
func (s *Store) OpenVersion(ctx context.Context, v blob.Version, offset, length int64) (io.ReadCloser, error) {
	if err := begin(ctx, v.Key); err != nil {
		return nil, fmt.Errorf("open version: %w", err)
	}
	if v.ID == "" || v.Deletion {
		return nil, fmt.Errorf("open version of object %s: it has no bytes: %w", s.show(v.Key), errs.NotFound)
	}
	r, err := s.open(ctx, v.Key, v.ID, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open version of object %s: %w", s.show(v.Key), err)
	}
	return r, nil
}

// Recover makes a version the object again; see blob.Versioned.
//
// Steps, and what a crash after each leaves:
//  1. Delete markers over the version are deleted, if nothing else lies over it:
//     the object is back with the last of them.
//  2. Where that is not allowed, or other bytes lie over it, its bytes are put
//     once more, as the newest version: it is back at once, and what was there
//     stays below.
func (s *Store) Recover(ctx context.Context, v blob.Version) error {
	if err := begin(ctx, v.Key); err != nil {
		return fmt.Errorf("recover object: %w", err)
	}
	if err := s.recoverVersion(ctx, v); err != nil {
		return fmt.Errorf("recover object %s: %w", s.show(v.Key), err)
	}
	return nil
}

func (s *Store) recoverVersion(ctx context.Context, v blob.Version) error {
	name := s.prefix + v.Key
	all, err := s.versionsOf(ctx, name)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(e blob.Version) bool { return e.ID == v.ID })
	if v.Deletion || at < 0 {
		return fmt.Errorf("version %s of it: %w", v.ID, errs.NotFound)
	}
	over := all[:at]
	if slices.ContainsFunc(over, func(e blob.Version) bool { return !e.Deletion }) {
		return s.again(ctx, all[at])
	}
	for _, m := range over {
		switch locked, err := s.removeVersion(ctx, name, m.ID); {
		case errors.Is(err, errs.Denied) || locked:
			return s.again(ctx, all[at])
		case err != nil:
			return err
		}
	}
	return nil
}

// again puts a version's bytes over whatever is there, unless they are there.
func (s *Store) again(ctx context.Context, v blob.Version) error {
	body := versionBody{ctx: ctx, store: s, version: v}
	if equal, err := blob.Equal(ctx, s, v.Key, body); equal || err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	_, err := s.put(ctx, v.Key, body, false)
	return err
}

// versionBody is a version as a blob.Body.
type versionBody struct {
	ctx     context.Context // of the one call that puts it
	store   *Store
	version blob.Version
}

func (b versionBody) Size() int64 { return b.version.Size }

func (b versionBody) Open() (io.ReadCloser, error) {
	return b.store.OpenVersion(b.ctx, b.version, 0, -1)
}

// versioned tells whether the bucket keeps versions, or has done so. Who may not
// ask finds out by trying.
func (s *Store) versioned(ctx context.Context) (bool, error) {
	w := s.watch(ctx, baseTime)
	defer w.end()
	out, err := s.client.GetBucketVersioning(w.ctx, &s3.GetBucketVersioningInput{Bucket: aws.String(s.bucket)})
	if err == nil {
		return out.Status == types.BucketVersioningStatusEnabled || out.Status == types.BucketVersioningStatusSuspended, nil
	}
	err = s.judge(ctx, w, err)
	switch {
	case errors.Is(err, errs.Denied):
		return true, nil
	case errors.Is(err, errs.Unsupported), errors.Is(err, errs.Invalid):
		return false, nil
	}
	return false, err
}
