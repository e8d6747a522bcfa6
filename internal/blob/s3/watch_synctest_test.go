package s3

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestATransferThatStandsOrCreepsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{stall: standardStall}
		begun := time.Now()
		w := s.watch(t.Context(), putTime(64<<20))
		defer w.end()
		for w.ctx.Err() == nil {
			w.moved()
			time.Sleep(time.Second)
		}
		if took := time.Since(begun); took < 15*time.Minute || took > 20*time.Minute {
			t.Errorf("one that creeps was given up after %s", took)
		}
		w = s.watch(t.Context(), putTime(64<<20))
		defer w.end()
		begun = time.Now()
		<-w.ctx.Done()
		if took := time.Since(begun); took != standardStall {
			t.Errorf("one that stands was given up after %s", took)
		}
	})
}
