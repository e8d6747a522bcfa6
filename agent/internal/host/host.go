// Package host tells facts about the machine: its name, operating system,
// processors, memory and free disk. What cannot be found out is left empty.
package host

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts about a machine.
type Facts struct {
	// Hostname as the operating system gives it.
	Hostname string
	// OperatingSystem, for example "Debian GNU/Linux 12 (bookworm)".
	OperatingSystem string
	// Processors that this process may use.
	Processors int
	// MemoryBytes of the machine.
	MemoryBytes int64
	// FreeDiskBytes of the file system that holds the folder asked about.
	FreeDiskBytes int64
}

// Look finds the facts; dir is the folder whose free space is wanted.
func Look(dir string) Facts {
	f := Facts{OperatingSystem: runtime.GOOS, Processors: runtime.GOMAXPROCS(0)}
	f.Hostname, _ = os.Hostname() // empty when unknown
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		if name := value(b, "PRETTY_NAME="); name != "" {
			f.OperatingSystem = strings.Trim(name, `"'`)
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _, _ := strings.Cut(strings.TrimSpace(value(b, "MemTotal:")), " ")
		n, _ := strconv.ParseInt(kib, 10, 64) // 0 when unknown
		f.MemoryBytes = n << 10
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		f.FreeDiskBytes = int64(fs.Bavail) * int64(fs.Bsize)
	}
	return f
}

// value gives the rest of the line that begins with a prefix.
func value(text []byte, prefix string) string {
	s := bufio.NewScanner(bytes.NewReader(text))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), prefix); ok {
			return rest
		}
	}
	return ""
}
