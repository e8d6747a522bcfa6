package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// serverTime is user and system time so far of the PostgreSQL server: of the
// postmaster, of the processes it has waited for, and of those that run.
func (b *bench) serverTime() time.Duration {
	file, err := os.ReadFile(filepath.Join(b.server.Data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	pid, _, _ := strings.Cut(string(file), "\n")
	for {
		stat := processStat(pid)
		total := ticks(stat, 11, 12, 13, 14) // utime, stime, cutime, cstime
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			if s := processStat(filepath.Base(dir)); len(s) > 1 && s[1] == pid {
				total += ticks(s, 11, 12)
			}
		}
		// One that was waited for meanwhile would be counted twice or not at all.
		if ticks(processStat(pid), 13, 14) == ticks(stat, 13, 14) {
			return total
		}
	}
}

// processStat gives the fields of /proc/PID/stat that follow the name: state,
// parent and so on; nil when there is no such process.
func processStat(pid string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
	if err != nil {
		return nil
	}
	i := strings.LastIndex(string(b), ") ")
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+2:]))
}

func ticks(stat []string, fields ...int) (d time.Duration) {
	for _, f := range fields {
		if f < len(stat) {
			n, _ := strconv.ParseInt(stat[f], 10, 64) // hundredths of a second on Linux
			d += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return d
}
