package pack_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// TestADirectoryIsAllocatedByWhatIsThere: a trailer that claims the most frames
// that a pack can have, in a store that says that the object is that large and
// gives a few bytes.
func TestADirectoryIsAllocatedByWhatIsThere(t *testing.T) {
	const entry, trailer = 68, 128
	for _, count := range []uint32{1, pack.MaxCount, pack.MaxCount + 1, 1<<32 - 1} {
		for _, size := range []int64{300, 64 << 20, 1<<62 - 1} {
			b := make([]byte, 0, trailer)
			b = binary.BigEndian.AppendUint64(b, uint64(size-trailer-int64(count)*entry))
			b = binary.BigEndian.AppendUint64(b, uint64(count)*entry)
			b = append(binary.BigEndian.AppendUint32(b, count), make([]byte, trailer-20-8)...)
			b = append(b, "TVPKTRLR"...)
			// Whatever is asked for, the last bytes are the trailer.
			open := func(_ context.Context, _, n int64) (io.ReadCloser, error) {
				give := make([]byte, max(0, min(n, 128<<10)-trailer))
				return io.NopCloser(io.MultiReader(bytes.NewReader(give), bytes.NewReader(b))), nil
			}
			var err error
			got := repotest.Allocated(func() { _, err = pack.ReadDirectory(t.Context(), open, size, pack.ID{1}) })
			if !errors.Is(err, errs.Corrupt) || got > 4<<20 {
				t.Errorf("%d frames in %d bytes: %d bytes allocated, %v", count, size, got, err)
			}
		}
	}
}
