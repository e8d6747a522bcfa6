package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	// probePrefix starts the names of what is written to try a service out. No key
	// starts with a dot: what a crash leaves is never taken for an object.
	probePrefix = ".tuskvault-probe-"
	// proofs is how often the trial is begun; what fails for another reason than
	// errs.Unavailable is not repeated.
	proofs = 4
	// proofWait is the pause after the first trial; it doubles.
	proofWait = 500 * time.Millisecond
	// cleanTime bounds the removal of a probe whose trial was canceled.
	cleanTime = 10 * time.Second
)

// prove tries the service out.
func (s *Store) prove(ctx context.Context) error {
	if err := errors.Join(s.reach(ctx), s.deletable(ctx)); err != nil {
		return err
	}
	wait := proofWait
	for n := 1; ; n++ {
		err := s.lockable(ctx)
		if err == nil {
			err = s.probe(ctx)
		}
		if !errors.Is(err, errs.Unavailable) || n == proofs || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return blob.Canceled(ctx)
		case <-timer.C:
		}
		wait *= 2
	}
}

// reach tells in words of its own what commonly is wrong with a new store.
func (s *Store) reach(ctx context.Context) error {
	w := s.watch(ctx, baseTime)
	defer w.end()
	if _, err := s.credentials.Retrieve(w.ctx); err != nil {
		if ended := blob.Canceled(ctx); ended != nil {
			return ended
		}
		return fmt.Errorf("no S3 credentials are found, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the SDK's files, or from the machine's role (%s): %w", s.redact(err.Error()), errs.Denied)
	}
	_, err := s.client.ListObjectsV2(w.ctx, &s3.ListObjectsV2Input{Bucket: aws.String(s.bucket), Prefix: aws.String(s.prefix), MaxKeys: aws.Int32(1)})
	if a := answerOf(err); a.code == "NoSuchBucket" {
		return fmt.Errorf("there is no such bucket, and none is made: %w", errs.NotFound)
	} else if a.status == http.StatusMovedPermanently || a.code == "AuthorizationHeaderMalformed" {
		return fmt.Errorf("the bucket is of another region: %w", s.judge(ctx, w, err))
	}
	if err != nil && !errors.Is(s.judge(ctx, w, err), errs.Unavailable) {
		return fmt.Errorf("list the bucket: %w", s.judge(ctx, w, err))
	}
	return nil // what may pass is the trial's to find out
}

// probe writes an object twice at once and once more, reads it and removes it.
func (s *Store) probe(ctx context.Context) (err error) {
	key := probePrefix + rand.Text()
	name := s.prefix + key
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		if e := s.remove(clean, name); err == nil && !errors.Is(e, errs.Denied) && !errors.Is(e, errs.Locked) {
			// Who may write but not delete, or has a bucket that locks everything, leaves
			// one behind, which does no harm.
			err = e
		}
	}()
	bodies := []blob.Bytes{blob.Bytes("one of two at once"), blob.Bytes("two of two at once")}
	results, said := make([]error, len(bodies)), make([]made, len(bodies))
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() { said[i], results[i] = s.create(ctx, key, body) })
	}
	wg.Wait()
	for _, m := range said {
		if m.tag != "" {
			s.found.versions = s.found.versions || m.version != "" // what removes the probe must know
		}
	}
	winner, err := winner(results)
	if err != nil {
		return err
	}
	if err := s.learn(said[winner]); err != nil {
		return err
	}
	switch _, err := s.create(ctx, key, blob.Bytes("three")); {
	case err == nil:
		return errNotAtomic
	case !errors.Is(err, errs.Exists):
		return fmt.Errorf("create the probe again: %w", err)
	}
	return s.readProbe(ctx, name, bodies[winner])
}

var errNotAtomic = fmt.Errorf("the service lets an object be overwritten although If-None-Match: * forbids it; without that two controllers destroy each other's data: %w", errs.Unsupported)

// winner tells which of the two creates at once won.
func winner(results []error) (int, error) {
	won := -1
	var passing error
	for i, err := range results {
		switch {
		case err == nil && won >= 0:
			return 0, errNotAtomic
		case err == nil:
			won = i
		case errors.Is(err, errs.Unavailable) || errors.Is(err, errs.Exists):
			passing = err
		case errors.Is(err, errs.Unsupported):
			return 0, fmt.Errorf("the service does not know If-None-Match: *: %w", err)
		default:
			return 0, fmt.Errorf("create a probe: %w", err)
		}
	}
	if won < 0 {
		return 0, fmt.Errorf("neither of two creates at once won: %w: %w", errs.Unavailable, passing)
	}
	return won, nil
}

// readProbe proves that what was written is there at once, whole, in parts and in
// lists, and gone at once.
func (s *Store) readProbe(ctx context.Context, name string, want blob.Bytes) error {
	key := name[len(s.prefix):]
	for _, span := range [][2]int64{{0, -1}, {4, 2}} {
		got, err := s.readWhole(ctx, key, span[0], span[1])
		if err != nil {
			return fmt.Errorf("read the probe: %w", err)
		}
		part := want[span[0]:]
		if span[1] >= 0 {
			part = part[:span[1]]
		}
		if string(got) != string(part) {
			return fmt.Errorf("the service gives other bytes than were written: %w", errs.Unsupported)
		}
	}
	page, err := s.listPage(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(s.bucket), Prefix: aws.String(name), MaxKeys: aws.Int32(1)})
	if err != nil {
		return fmt.Errorf("list the probe: %w", err)
	}
	if len(page.Contents) != 1 || aws.ToString(page.Contents[0].Key) != name {
		return fmt.Errorf("the service does not list at once what was written: %w", errs.Unsupported)
	}
	return nil
}

func (s *Store) readWhole(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	r, err := s.open(ctx, key, "", offset, length)
	if errors.Is(err, errs.NotFound) {
		return nil, fmt.Errorf("the service does not show at once what was written: %w", errs.Unsupported)
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, math.MaxInt16))
	return b, errors.Join(err, r.Close())
}
