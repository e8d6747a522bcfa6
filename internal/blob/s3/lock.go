package s3

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// The modes of a lock. Whoever has the right s3:BypassGovernanceRetention can lift
// the first; nobody the second, not even the owner of the account.
const (
	Governance = "governance"
	Compliance = "compliance"
)

// lockModes are the service's words.
var lockModes = map[string]types.ObjectLockMode{Governance: types.ObjectLockModeGovernance, Compliance: types.ObjectLockModeCompliance}

// LockTime is for how long Create locks an object of this key; see blob.Locker.
func (s *Store) LockTime(key string) time.Duration {
	if s.config.LockMode == "" {
		return 0
	}
	most := time.Duration(s.config.LockDays) * 24 * time.Hour
	if s.config.LockTime == nil {
		return most
	}
	return min(most, s.config.LockTime(key, most))
}

// lockEnd is when a lock from now on ends; services count in seconds.
func (s *Store) lockEnd(d time.Duration) time.Time {
	return s.clock.now().Add(d).UTC().Truncate(time.Second).Add(time.Second)
}

// lockNew has a new object locked. The service asks for a checksum of what is
// locked: create sends one always.
func (s *Store) lockNew(in *s3.PutObjectInput, key string) {
	if d := s.LockTime(key); d > 0 {
		in.ObjectLockMode = lockModes[s.config.LockMode]
		in.ObjectLockRetainUntilDate = aws.Time(s.lockEnd(d))
	}
}

// Lock locks an object for LockTime from now on; see blob.Locker. One request, and
// two more where the object is locked for longer or in the other mode.
func (s *Store) Lock(ctx context.Context, key string) (time.Time, error) {
	if err := begin(ctx, key); err != nil {
		return time.Time{}, fmt.Errorf("lock object: %w", err)
	}
	until, err := s.lock(ctx, s.prefix+key, s.LockTime(key))
	if err != nil {
		return time.Time{}, fmt.Errorf("lock object %s: %w", s.show(key), err)
	}
	return until, nil
}

func (s *Store) lock(ctx context.Context, name string, d time.Duration) (time.Time, error) {
	if d <= 0 {
		return time.Time{}, fmt.Errorf("objects of this name are not locked: %w", errs.Unsupported)
	}
	w := s.watch(ctx, baseTime)
	defer w.end()
	want, mode := s.lockEnd(d), lockModes[s.config.LockMode]
	put := func(mode types.ObjectLockMode) error {
		_, err := s.client.PutObjectRetention(w.ctx, &s3.PutObjectRetentionInput{Bucket: aws.String(s.bucket), Key: aws.String(name),
			Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(mode), RetainUntilDate: aws.Time(want)}})
		return err
	}
	err := put(mode)
	if err == nil {
		return want, nil
	}
	if a := answerOf(err); a.noObject() || a.status == http.StatusMethodNotAllowed { // what is newest is a deletion
		return time.Time{}, errs.NotFound
	}
	// A lock that is longer, or of the other mode, is refused in several words.
	has, getErr := s.retention(w, name, "")
	switch {
	case getErr != nil || has.mode == "":
		return time.Time{}, s.judge(ctx, w, err)
	case !has.until.Before(want):
		return has.until, nil
	case has.mode == mode:
		return time.Time{}, s.judge(ctx, w, err)
	}
	if err := put(has.mode); err != nil {
		return time.Time{}, s.judge(ctx, w, err)
	}
	return want, nil
}

// retention is how a version is locked; mode is empty when it is not.
type retention struct {
	mode  types.ObjectLockMode
	until time.Time
}

// retention asks how a version is locked, the newest when none is named.
func (s *Store) retention(w *watch, name, version string) (retention, error) {
	in := &s3.GetObjectRetentionInput{Bucket: aws.String(s.bucket), Key: aws.String(name)}
	if version != "" {
		in.VersionId = aws.String(version)
	}
	out, err := s.client.GetObjectRetention(w.ctx, in)
	if err != nil || out.Retention == nil {
		return retention{}, err
	}
	return retention{mode: types.ObjectLockMode(out.Retention.Mode), until: aws.ToTime(out.Retention.RetainUntilDate)}, nil
}

// held tells whether a legal hold lies on a version.
func (s *Store) held(w *watch, name, version string) bool {
	out, err := s.client.GetObjectLegalHold(w.ctx, &s3.GetObjectLegalHoldInput{Bucket: aws.String(s.bucket), Key: aws.String(name), VersionId: aws.String(version)})
	return err == nil && out.LegalHold != nil && out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
}
