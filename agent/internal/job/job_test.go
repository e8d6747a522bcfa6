package job_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestOnlyFailuresThatMayPassAreRetryable(t *testing.T) {
	may := map[*errs.Kind]bool{errs.Unavailable: true, errs.Busy: true, errs.Timeout: true, errs.Exhausted: true}
	for _, kind := range errs.All() {
		if got := job.Retryable(fmt.Errorf("read table t: %w", kind)); got != may[kind] {
			t.Errorf("%v: retryable %v, want %v", kind, got, may[kind])
		}
	}
	if job.Retryable(errors.New("no kind")) {
		t.Error("a failure without a kind is retryable")
	}
}

func TestACanceledAttemptSaysWhyAndALostOneMayBeTriedAgain(t *testing.T) {
	live, stop := context.WithCancelCause(t.Context())
	if r := job.FailedResult(live, fmt.Errorf("wrong password: %w", errs.Denied)); r.Outcome != job.Failed || r.Retryable || r.Err != "wrong password: denied" {
		t.Errorf("live: %+v", r)
	}
	stop(fmt.Errorf("alice: %w", errs.Canceled))
	if r := job.FailedResult(live, errors.New("conn closed")); r.Outcome != job.Canceled || r.Err != "alice: canceled" {
		t.Errorf("canceled: %+v", r)
	}
	lost, stop := context.WithCancelCause(t.Context())
	stop(fmt.Errorf("no word from the controller: %w", errs.Timeout))
	if r := job.FailedResult(lost, nil); r.Outcome != job.Failed || !r.Retryable || r.Err != "no word from the controller: timed out" {
		t.Errorf("lost: %+v", r)
	}
}

func TestAttemptsAreReadAsTheyWereWritten(t *testing.T) {
	r := job.Ref{ID: repo.NewID(), Fence: repo.Fence{Epoch: 7, Counter: 1 << 63}}
	if back, err := job.ParseRef(r.Text()); err != nil || back != r {
		t.Errorf("%v %v", back, err)
	}
	for _, bad := range []string{"", "x", r.ID.String(), r.ID.String() + "-1", r.ID.String() + "-1.", r.ID.String() + "-01.2", r.Text() + "0x", "-1.2"} {
		if _, err := job.ParseRef(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
