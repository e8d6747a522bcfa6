package transfer

import (
	"sync"

	"github.com/tuskvault/tuskvault/internal/seal"
)

// recentNames bounds each half of the set of names put: two halves of 32,768
// names take about 4 MiB and cover the last 8 to 16 GB of plaintext. A repeat
// that is older is asked for, and answered present, like any other chunk.
const recentNames = 32 << 10

// recent remembers the names put last, so that a chunk that occurs often (an
// empty page of a large object, a repeated row) is sent once. The older half is
// forgotten when the newer one is full.
type recent struct {
	mu         sync.Mutex
	young, old map[seal.Name]struct{}
}

// add tells whether the name is new, and remembers it.
func (r *recent) add(n seal.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.young[n]; ok {
		return false
	}
	_, known := r.old[n]
	if len(r.young) >= recentNames || r.young == nil {
		r.old, r.young = r.young, make(map[seal.Name]struct{}, 1024)
	}
	r.young[n] = struct{}{}
	return !known
}
