package check_test

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestReadingKeepsToThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		start := time.Now()
		w.check(o)
		if took := time.Since(start); took != 0 {
			t.Fatalf("without a bound it took %s of the bubble's time", took)
		}
		o.BytesPerSecond = 1000
		r := w.check(o)
		least := time.Duration(r.BytesRead) * time.Second / 1000
		if took := time.Since(start); took < least || took > 20*least {
			t.Errorf("%d bytes of frames at 1000 a second took %s", r.BytesRead, took)
		}
	})
}
