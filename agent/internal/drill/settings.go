package drill

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// Bounds of the server's memory: a sixteenth of the host's for its cache, since
// the host has other work.
const (
	leastBuffers = 32 << 20
	mostBuffers  = 512 << 20
)

// port is only a number in the socket's name: the folder is the server's own.
const port = 5432

// setup is what the settings of a server depend on.
type setup struct {
	version pg.Version
	// memory of the host in bytes, 0 when unknown.
	memory int64
	// sessions that will be open at once.
	sessions int
	// socket is the folder of the socket.
	socket string
	// preload are libraries to load at the start.
	preload []string
	// title is shown in the list of processes.
	title string
}

// setting is one of the server's.
type setting struct{ name, value string }

// settings gives all that differ from the server's defaults. They stand on the
// command line, where nothing that is restored can change them.
func settings(s setup) []setting {
	buffers := leastBuffers
	if s.memory > 0 {
		buffers = int(min(max(s.memory/16, leastBuffers), mostBuffers))
	}
	all := []setting{
		// Who may come: nobody but us.
		{"listen_addresses", ""}, {"port", fmt.Sprint(port)}, {"unix_socket_directories", s.socket}, {"unix_socket_permissions", "0700"},
		{"ssl", "off"}, {"max_connections", fmt.Sprint(s.sessions + 10)},
		// Nothing acts by itself, and nothing goes out.
		{"archive_mode", "off"}, {"wal_level", "minimal"}, {"max_wal_senders", "0"}, {"max_logical_replication_workers", "0"},
		{"autovacuum", "off"}, {"restart_after_crash", "off"}, {"shared_preload_libraries", join(s.preload)},
		{"cron.launch_active_jobs", "off"},
		// It is thrown away: nothing has to survive.
		{"fsync", "off"}, {"full_page_writes", "off"}, {"synchronous_commit", "off"}, {"max_wal_size", "512MB"},
		// It is a guest on this host.
		{"shared_buffers", fmt.Sprintf("%dkB", buffers>>10)}, {"huge_pages", "off"}, {"dynamic_shared_memory_type", "mmap"}, {"jit", "off"},
		{"max_locks_per_transaction", "256"}, {"cluster_name", s.title},
		{"log_min_messages", "warning"}, {"log_destination", "stderr"}, {"logging_collector", "off"}, {"lc_messages", "C"},
	}
	if s.version.Major() >= 17 {
		all = append(all, setting{"event_triggers", "off"}) // one on login may keep everybody out
	}
	return all
}

// join gives the value of a list setting.
func join(names []string) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// preloads picks the libraries to load at the start: those of extensions that
// the snapshot has, that this agent's configuration lists, and that are there.
// An extension and its library have the same name.
func preloads(extensions, listed []string, there func(name string) bool) []string {
	var out []string
	for _, x := range extensions {
		if slices.Contains(listed, x) && !slices.Contains(out, x) && there(x) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
