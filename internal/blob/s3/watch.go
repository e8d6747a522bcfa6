package s3

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// The bounds in time of one operation. None repeats: blob.Retry decides that.
const (
	// standardStall is how long nothing may move. A store that works answers within
	// seconds; one that throttles says so.
	standardStall = 30 * time.Second
	// answerStalls is how many stalls the answer to a whole body may take: the store
	// drains what the network still holds, checks it and makes it durable.
	answerStalls = 4
	// slowest is the rate, in bytes a second, below which a transfer is given up
	// although it moves: a pack has 18 minutes.
	slowest = 64 << 10
	// baseTime is what an operation without a body has.
	baseTime = 2 * time.Minute
)

func putTime(size int64) time.Duration {
	return baseTime + time.Duration(size/slowest)*time.Second
}

// watch ends the context of an operation that stands still or takes too long.
type watch struct {
	ctx         context.Context // of the one operation
	cancel      context.CancelCauseFunc
	stall       time.Duration
	idle, whole *time.Timer
}

func (s *Store) watch(ctx context.Context, total time.Duration) *watch {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, cancel: cancel, stall: s.stall}
	w.idle = time.AfterFunc(w.stall, func() { cancel(fmt.Errorf("nothing moved for too long (%s at most): %w", w.stall, errs.Unavailable)) })
	w.whole = time.AfterFunc(total, func() { cancel(fmt.Errorf("took longer than %s: %w", total, errs.Unavailable)) })
	return w
}

// moved says that bytes moved.
func (w *watch) moved() { w.idle.Reset(w.stall) }

// sent says that the whole body is on its way.
func (w *watch) sent() { w.idle.Reset(answerStalls * w.stall) }

// pause stops both clocks: what comes next is the reader's time.
func (w *watch) pause() {
	w.idle.Stop()
	w.whole.Stop()
}

// end frees what the watch holds and ends what goes on under it.
func (w *watch) end() {
	w.pause()
	w.cancel(nil)
}
