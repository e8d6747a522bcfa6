package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// features are what Open found out about the bucket.
type features struct {
	versions   bool
	encryption string
}

// Features tells what Open found out. Creates are atomic, or Open would have
// refused; they are durable as far as the service keeps its word.
func (s *Store) Features() blob.Features {
	f := blob.Features{AtomicCreate: true, Durable: true, OwnClock: true, Location: s.location, Versions: s.found.versions, Lock: s.config.LockMode,
		Encryption: s.found.encryption, StorageClass: s.config.StorageClass, SeparateDeletes: s.deleting != nil}
	if f.Lock != "" && !f.SeparateDeletes {
		f.Warnings = append(f.Warnings, "the credentials that write may delete too: name others by delete_credentials")
	}
	return f
}

// lockable makes sure that the bucket can lock what is put into it: it must have
// been made so.
func (s *Store) lockable(ctx context.Context) error {
	if s.config.LockMode == "" {
		return nil
	}
	w := s.watch(ctx, baseTime)
	defer w.end()
	out, err := s.client.GetObjectLockConfiguration(w.ctx, &s3.GetObjectLockConfigurationInput{Bucket: aws.String(s.bucket)})
	if err == nil && out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled {
		return nil
	}
	const cannot = "the bucket cannot lock objects, and lock=%s asks for it: object lock is chosen when a bucket is made"
	if err == nil {
		return fmt.Errorf(cannot+": %w", s.config.LockMode, errs.Unsupported)
	}
	a := answerOf(err)
	err = s.judge(ctx, w, err)
	if a.status == http.StatusNotFound || errors.Is(err, errs.Unsupported) || errors.Is(err, errs.Invalid) {
		return fmt.Errorf(cannot+" (%s): %w", s.config.LockMode, err.Error(), errs.Unsupported)
	}
	return fmt.Errorf("ask whether the bucket can lock objects: %w", err)
}

// deletable makes sure that there are the credentials that delete.
func (s *Store) deletable(ctx context.Context) error {
	if s.deleting == nil {
		return nil
	}
	w := s.watch(ctx, baseTime)
	defer w.end()
	if _, err := s.deleting.Retrieve(w.ctx); err != nil {
		if ended := blob.Canceled(ctx); ended != nil {
			return ended
		}
		return fmt.Errorf("no credentials that delete are found by delete_credentials=%s (%s): %w", s.config.DeleteCredentials, s.redact(err.Error()), errs.Denied)
	}
	return nil
}

// learn takes in what the service said of a probe.
func (s *Store) learn(m made) error {
	s.found = features{versions: m.version != "", encryption: m.encryption}
	if want := s.config.Encryption; want != "" && m.encryption != want {
		return fmt.Errorf("the service was asked for encryption by sse=%s and does not confirm it (it says %q): %w", want, m.encryption, errs.Unsupported)
	}
	if s.config.LockMode != "" && m.version == "" {
		return fmt.Errorf("the bucket keeps no versions, and lock=%s needs them: %w", s.config.LockMode, errs.Unsupported)
	}
	return nil
}
