package scrub_test

import (
	"crypto/sha256"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/controller/internal/scrub"
)

func hash(b []byte) [32]byte { return sha256.Sum256(b) }

// tiny lets a pack of the world be read about every hour.
const tiny = 24 * 70 << 10

func TestTheScrubReadsEveryPackWithinItsBudgetAndBeginsAgainAfterTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		start := time.Now()
		stop := running(t, w.scrubber(scrub.Options{BytesPerDay: tiny, Interval: 240 * time.Hour}).Run)
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		if got := w.store.take(); len(got) != 3 || !slices.Equal(got, w.packs[:3]) {
			t.Errorf("after two and a half hours %d packs were read: %q", len(got), got)
		}
		time.Sleep(time.Duration(len(w.packs)) * time.Hour)
		synctest.Wait()
		if got := w.store.take(); !slices.Equal(got, w.packs[3:]) {
			t.Errorf("then %q, want %q", got, w.packs[3:])
		}
		s := w.scrubbed()
		if s.CompletedPacks != int64(len(w.packs)) || s.CompletedBytes == 0 || !s.Started.IsZero() || s.Completed.Before(start) {
			t.Errorf("after a round: %+v", s)
		}
		time.Sleep(239 * time.Hour)
		synctest.Wait()
		if got := w.store.take(); len(got) == 0 || got[0] != w.packs[0] {
			t.Errorf("after the interval: %q", got)
		}
		stop()
	})
}

func TestARestartedScrubGoesOnWhereItWasAndKeepsToItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := scrub.Options{BytesPerDay: tiny, Interval: 240 * time.Hour}
		var read []string
		for range 20 {
			stop := running(t, w.scrubber(o).Run)
			time.Sleep(30 * time.Minute)
			stop()
			read = append(read, w.store.take()...)
		}
		if diff := cmp.Diff(w.packs[:11], read); diff != "" {
			t.Errorf("twenty half hours: %s", diff)
		}
	})
}

func TestTheScrubMarksWhatIsDamagedAndForgetsItWhenItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bad := w.packs[len(w.packs)/2]
		w.damage(bad)
		o := scrub.Options{BytesPerDay: 1 << 40, Interval: 24 * time.Hour}
		stop := running(t, w.scrubber(o).Run)
		time.Sleep(time.Hour)
		synctest.Wait()
		if diff := cmp.Diff([]string{bad}, w.marked()); diff != "" {
			t.Error(diff)
		}
		stop()
		// A start tells the ingest again, before anything is read.
		w.ingest.Trust([16]byte{}, w.ingest.ids()...)
		must(t, w.marks.Load(t.Context()))
		if diff := cmp.Diff([]string{bad}, w.marked()); diff != "" {
			t.Error(diff)
		}
		w.damage(bad) // the same bit again
		stop = running(t, w.scrubber(o).Run)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got := w.marked(); len(got) != 0 {
			t.Errorf("mended, and still marked: %q", got)
		}
		stop()
	})
}

func TestAScrubOfNothingIsNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, key := range w.packs {
			must(t, w.store.Delete(t.Context(), key))
		}
		stop := running(t, w.scrubber(scrub.Options{BytesPerDay: tiny, Interval: 24 * time.Hour}).Run)
		time.Sleep(100 * time.Hour)
		stop()
		if s := w.scrubbed(); !s.Completed.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

func TestWithoutABudgetNothingIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := running(t, w.scrubber(scrub.Options{Interval: time.Hour}).Run)
		time.Sleep(100 * time.Hour)
		stop()
		if got := w.store.take(); len(got) > 0 {
			t.Errorf("read %q", got)
		}
	})
}
