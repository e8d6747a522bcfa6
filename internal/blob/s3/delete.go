package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// maxVersions bounds the versions of one key that one Delete deletes, and so what
// it holds in memory: some 1 MiB. Honest keys have one.
const maxVersions = 10_000

// Delete removes an object with all its versions; see blob.Store.
//
// Steps in a versioned bucket, and what a crash after each leaves:
//  1. The key's versions are listed. A single one is deleted, and that is all.
//  2. What cannot go, or not in one step, is hidden by a delete marker: gone for
//     readers, its bytes are kept.
//  3. The versions whose lock has ended, and older markers: fewer of them.
//  4. The marker, when nothing else is left: nothing.
//
// While a lock keeps a version the marker stays and the answer is errs.Locked.
// The same call goes on where an earlier one ended.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, key); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	if err := s.remove(ctx, s.prefix+key); err != nil {
		return fmt.Errorf("delete object %s: %w", s.show(key), err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, name string) error {
	if !s.found.versions {
		_, err := s.removeVersion(ctx, name, "")
		return err
	}
	all, err := s.versionsOf(ctx, name)
	if err != nil || len(all) == 0 {
		return err
	}
	top := all[0]
	if len(all) == 1 && !top.Deletion {
		locked, err := s.removeVersion(ctx, name, top.ID)
		if err != nil || !locked {
			return err
		}
	}
	if !top.Deletion {
		if top.ID, err = s.hide(ctx, name); err != nil {
			return err
		}
		all = append([]blob.Version{top}, all...)
	}
	kept := 0
	for _, v := range all[1:] {
		locked, err := s.removeVersion(ctx, name, v.ID)
		if err != nil {
			return err
		}
		if locked {
			kept++
		}
	}
	switch {
	case kept > 0:
		return fmt.Errorf("%d of its versions: %w", kept, errs.Locked)
	case len(all) >= maxVersions:
		return fmt.Errorf("it has more than %d versions, the rest is for the next call: %w", maxVersions, errs.Unavailable)
	}
	_, err = s.removeVersion(ctx, name, top.ID)
	return err
}

// hide puts a delete marker over an object and gives its id.
func (s *Store) hide(ctx context.Context, name string) (string, error) {
	w := s.watch(ctx, baseTime)
	defer w.end()
	out, err := s.deleter.DeleteObject(w.ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(name)})
	if err != nil {
		return "", s.judge(ctx, w, err)
	}
	if aws.ToString(out.VersionId) == "" {
		return "", fmt.Errorf("the store names no delete marker: %w", errs.Unavailable)
	}
	return *out.VersionId, nil
}

// removeVersion deletes one version, or in a bucket without them the object. It
// tells whether a lock forbids that.
func (s *Store) removeVersion(ctx context.Context, name, version string) (locked bool, err error) {
	w := s.watch(ctx, baseTime)
	defer w.end()
	in := &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(name)}
	if version != "" {
		in.VersionId = aws.String(version)
	}
	_, err = s.deleter.DeleteObject(w.ctx, in)
	a := answerOf(err)
	if err == nil || a.noObject() || a.status == http.StatusNotFound && a.code == "NoSuchVersion" {
		return false, nil
	}
	// The words for a lock differ, and most say no more than "denied": whether there
	// is one tells.
	if version != "" && a.status >= 400 && a.status < 500 && errors.Is(a.kind(), errs.Denied) || a.code == "ObjectLocked" || a.code == "InvalidRequest" {
		if has, getErr := s.retention(w, name, version); getErr == nil && has.mode != "" && has.until.After(s.clock.now()) {
			return true, nil
		}
		if s.held(w, name, version) {
			return true, nil
		}
	}
	return false, s.judge(ctx, w, err)
}

// versionsOf lists the versions of one name, newest first, at most maxVersions.
func (s *Store) versionsOf(ctx context.Context, name string) (all []blob.Version, err error) {
	err = s.eachVersion(ctx, name, "", func(full string, v blob.Version) error {
		if full != name || len(all) == maxVersions {
			return errEnough
		}
		all = append(all, v)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return all, err
}

var errEnough = errors.New("enough")
