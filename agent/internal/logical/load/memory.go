package load

import (
	"cmp"
	"math"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// Sorting for a b-tree is cheapest in memory that the processor's caches hold in
// good part, as long as what is sorted piece by piece is merged in one go: a
// merge of n pieces takes n times mergeBytes.
const (
	sortBytes  = 32 << 20
	mergeBytes = 264 << 10
)

// memoryFor is the maintenance_work_mem with which an entry is made over a table
// of heap bytes, between sortBytes and limit. Processes that help need their own.
// What is no b-tree, and the check of a foreign key, uses a hash or a tree in
// memory and gets the limit.
func memoryFor(e *pgarchive.Entry, heap int64, parallel int, limit int64) int64 {
	sorts := e.Desc == "INDEX" && strings.Contains(e.Defn, " USING btree (") || e.Desc == "CONSTRAINT" && !strings.Contains(e.Defn, " EXCLUDE ")
	if !sorts {
		return limit
	}
	merge := int64(math.Sqrt(float64(heap) * mergeBytes))
	return min(max(sortBytes, merge)*int64(1+parallel), limit)
}

// clampMemory is maintenance_work_mem for each of jobs sessions: an eighth of
// the host's memory between them, at least 64 MiB and at most 512 MiB (more was
// measured to be no faster, at times slower). memory 0 means unknown.
func clampMemory(memory int64, jobs int) int64 {
	return min(max(memory/8/int64(cmp.Or(jobs, 1)), 64<<20), 512<<20)
}
