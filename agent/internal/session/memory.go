package session

import (
	"bytes"
	"os"
	"strconv"
)

// resetPeak makes the kernel count the peak of this process's resident memory
// anew. Where there is no such count nothing happens.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // a figure for people: without it the peak is that of the whole process
}

// peakMemory gives the peak resident memory in bytes, 0 when unknown.
func peakMemory() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(l, []byte("VmHWM:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
