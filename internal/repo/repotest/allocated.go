package repotest

import "runtime"

// Allocated gives how many bytes were allocated while fn ran, by it or by others:
// nothing else may go on meanwhile.
func Allocated(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}
