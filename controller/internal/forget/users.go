package forget

import (
	"sync"

	"github.com/tuskvault/tuskvault/internal/repo"
)

// Users counts who reads snapshots without a job: exports. Its methods may be
// called concurrently; the zero value is ready.
type Users struct {
	mu   sync.Mutex
	used map[repo.JobID]int
}

// Use counts a reader until release is called. Whoever uses a snapshot must look
// at its record after that: a purge that had been decided before says so there,
// and one that is decided later waits for the release.
func (u *Users) Use(id repo.JobID) (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used == nil {
		u.used = make(map[repo.JobID]int)
	}
	u.used[id]++
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.used[id]--; u.used[id] == 0 {
			delete(u.used, id)
		}
	})
}

// Uses tells whether somebody reads a snapshot.
func (u *Users) Uses(id repo.JobID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.used[id] > 0
}
