package s3

import (
	"errors"
	"io"
	"testing"
	"time"
)

// counting gives bytes for ever, and must be used by one at a time.
type counting struct{ reads int }

func (c *counting) Read(p []byte) (int, error) { c.reads++; return len(p), nil }
func (c *counting) Close() error               { return nil }

// net/http may read a body longer than the request lives.
func TestAnEndedUploadLeavesItsBodyAlone(t *testing.T) {
	s := &Store{stall: standardStall}
	w := s.watch(t.Context(), time.Hour)
	defer w.end()
	inner := &counting{}
	u := &upload{inner: inner, left: 1 << 20, watch: w}
	begun, transport := make(chan struct{}), make(chan error)
	go func() {
		_, err := u.Read(make([]byte, 10))
		close(begun)
		for n := 0; err == nil && n < 1e6; n++ { // until the upload ends
			_, err = u.Read(make([]byte, 10))
		}
		transport <- err
	}()
	<-begun
	if err := u.end(); err != nil {
		t.Error(err)
	}
	reads := inner.reads // the race detector objects if somebody still reads
	if err := <-transport; !errors.Is(err, errEnded) {
		t.Errorf("the transport got %v", err)
	}
	if inner.reads != reads {
		t.Errorf("%d reads after the end", inner.reads-reads)
	}
	if _, err := io.ReadAll(u); !errors.Is(err, errEnded) {
		t.Errorf("a read after the end: %v", err)
	}
}
