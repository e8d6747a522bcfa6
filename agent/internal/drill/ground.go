package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
)

// Options say where and how drills are held.
type Options struct {
	// Base is the folder below which each drill has one of its own. It is made when
	// it is first needed.
	Base string
	// User runs the server when the agent is root; empty means DefaultUser.
	User string
	// Preload lists libraries that may be loaded at the start, when an extension of
	// the same name is in the snapshot.
	Preload []string
	// MinFree are the bytes that must stay free on Base's file system: a drill that
	// leaves less is stopped.
	MinFree int64
	// ToolDirs are searched for the server programs before the usual places.
	ToolDirs []string
	// Instances whose folders a drill must stay away from.
	Instances []postgres.Config
	// Download fetches the snapshot.
	Download logical.Download
	// Sign signs a report as this agent.
	Sign func(statement []byte) (report.Signed, error)
	// Self is this agent's id, Repository that of the controller's.
	Self       func() repo.AgentID
	Repository func() repo.RepositoryID
	// Version of this program, for the report.
	Version string
	Log     *zap.Logger
}

// Names below a base.
const (
	lockName   = "lock"
	markName   = "mark"
	prefix     = "drill-"
	serverName = "pg"
	dataName   = "data"
	// socketPrefix begins the names of socket folders that are not below the base.
	socketPrefix = "tuskvault-drill-"
)

// stopTime is how long a server may take to end before it is killed.
const stopTime = 10 * time.Second

// Ground is where this agent holds drills, one at a time.
type Ground struct {
	o   Options
	log *zap.Logger

	mu     sync.Mutex
	unlock func() // nil while the base is not locked
	busy   bool
}

// New prepares a ground. Nothing is made or looked at.
func New(o Options) *Ground { return &Ground{o: o, log: o.Log.Named("drill")} }

// mark is what a drill's folder says of itself.
type mark struct {
	Job     string    `json:"job"`
	Attempt string    `json:"attempt"`
	Created time.Time `json:"created"`
	// Process of the server, 0 before it was started.
	Process int `json:"process"`
	// Socket is the folder of the socket when it is not below this one.
	Socket string `json:"socket,omitempty"`
}

// Clear removes what earlier drills have left, after ending what runs there. It
// is called when the agent starts. A base that does not exist is left so. What
// cannot be removed is in the error, and is no reason not to start.
func (g *Ground) Clear() error {
	if _, err := os.Stat(g.o.Base); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ours(g.o.Base); err != nil {
		return fmt.Errorf("look for leftovers of drills: %w", err)
	}
	if err := g.lockLocked(); err != nil {
		return fmt.Errorf("look for leftovers of drills: %w", err)
	}
	return g.sweep()
}

// Close lets go of the base. No drill may be held any more.
func (g *Ground) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unlock != nil {
		g.unlock()
		g.unlock = nil
	}
}

// lockLocked locks the base, which must exist, for as long as the agent lives.
func (g *Ground) lockLocked() error {
	if g.unlock != nil {
		return nil
	}
	unlock, err := durable.Lock(filepath.Join(g.o.Base, lockName))
	if errors.Is(err, errs.Busy) {
		return fmt.Errorf("drill folder %s: another agent uses it; set drill.dir to another: %w", g.o.Base, errs.Conflict)
	} else if err != nil {
		return fmt.Errorf("drill folder: %w", err)
	}
	g.unlock = unlock
	return nil
}

// sweep removes every drill's folder.
func (g *Ground) sweep() error {
	entries, err := os.ReadDir(g.o.Base)
	if err != nil {
		return fmt.Errorf("look for leftovers of drills: %w", err)
	}
	var all error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(g.o.Base, e.Name())
		if err := remove(dir); err != nil {
			all = errors.Join(all, fmt.Errorf("remove what a drill left: %w", err))
			continue
		}
		g.log.Warn("removed what a drill left", zap.String("path", dir))
	}
	return all
}

// remove ends what runs in a drill's folder and removes it. Without the mark it
// is only removed when it is empty: a crash comes between the two, and anything
// else is not ours.
func remove(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		// A mark that was being written when the power went has another name.
		_ = os.Remove(filepath.Join(dir, markName+".new"))
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("%s has no mark and is not empty, it is left alone: %w", dir, err)
		}
		return nil
	} else if err != nil {
		return err
	}
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%s: its mark cannot be read, it is left alone: %w: %w", dir, err, errs.Corrupt)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if left := killInside(filepath.Join(real, serverName, dataName)); len(left) > 0 {
		return fmt.Errorf("%s: processes %v do not end: %w", dir, left, errs.Busy)
	}
	if s := m.Socket; s != "" && filepath.Dir(s) == filepath.Clean(os.TempDir()) && strings.HasPrefix(filepath.Base(s), socketPrefix) {
		if err := os.RemoveAll(s); err != nil {
			return err
		}
	}
	// The mark goes last: a crash before leaves it for the next try.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == markName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Inventory is what can be told of a ground before there is a drill.
type Inventory struct {
	// Refusal says why none can be held, or is empty.
	Refusal string
	// FreeDiskBytes of the file system of the base, less what must stay free.
	FreeDiskBytes int64
	// Servers that are installed.
	Servers []postgres.Server
}

// Look finds out whether and with what drills can be held. It makes nothing.
func (g *Ground) Look(ctx context.Context) Inventory {
	v := Inventory{Refusal: unsupported, Servers: postgres.FindServers(ctx, g.o.ToolDirs)}
	exists := g.o.Base
	for ; exists != filepath.Dir(exists); exists = filepath.Dir(exists) {
		if _, err := os.Stat(exists); err == nil {
			break
		}
	}
	v.FreeDiskBytes = max(0, host.Look(exists).FreeDiskBytes-g.o.MinFree)
	who, err := findOwner(g.o.User)
	if err == nil {
		err = who.reaches(exists)
	}
	if err == nil {
		err = checkPlace(ctx, g.o.Base, g.o.Instances)
	}
	if err != nil && v.Refusal == "" {
		v.Refusal = err.Error()
	}
	return v
}

// field is the folder of one drill.
type field struct {
	dir    string // root's or ours, as all that is directly in it and not a folder
	server string // the owner's
	socket string // the owner's
	who    owner
	mark   mark
}

// Data is the data directory.
func (f *field) data() string { return filepath.Join(f.server, dataName) }

// enter takes the ground for one drill and makes its folder: first the base,
// where it is missing, then what an earlier drill may have left is removed, then
// the folder, its mark, and only then the rest.
func (g *Ground) enter(ctx context.Context, j job.Job) (*field, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy {
		return nil, fmt.Errorf("another drill is held by this agent: %w", errs.Busy)
	}
	if unsupported != "" {
		return nil, refusal(unsupported)
	}
	who, err := findOwner(g.o.User)
	if err != nil {
		return nil, err
	}
	if err := g.makeBase(ctx, who); err != nil {
		return nil, err
	}
	f, err := makeField(g.o.Base, j, who)
	if err != nil {
		return nil, err
	}
	g.busy = true
	return f, nil
}

// makeBase makes and checks the base. Others may pass through it when the server
// is another's, and see nothing of what is in it.
func (g *Ground) makeBase(ctx context.Context, who owner) error {
	// Before anything is made: it must not be made in somebody's data directory.
	if err := checkPlace(ctx, g.o.Base, g.o.Instances); err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if who.other {
		mode = 0o711
	}
	if err := os.Mkdir(g.o.Base, mode); err == nil {
		if err := os.Chmod(g.o.Base, mode); err != nil { // whatever the umask said
			return fmt.Errorf("make drill folder: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make drill folder: %w", err)
	}
	if err := errors.Join(ours(g.o.Base), who.reaches(g.o.Base)); err != nil {
		return err
	}
	if err := g.lockLocked(); err != nil {
		return err
	}
	return g.sweep()
}

// longestSocket is what fits into sun_path, its closing zero left out.
const longestSocket = 107

func makeField(base string, j job.Job, who owner) (_ *field, err error) {
	base, err = filepath.EvalSymlinks(base)
	if err != nil {
		return nil, fmt.Errorf("make folder of the drill: %w", err)
	}
	f := &field{dir: filepath.Join(base, fmt.Sprintf("%s%s-%d", prefix, j.ID.Short(), j.Fence.Counter)), who: who,
		mark: mark{Job: j.ID.String(), Attempt: j.Fence.String(), Created: time.Now()}}
	f.server, f.socket = filepath.Join(f.dir, serverName), filepath.Join(f.dir, "socket")
	mode := fs.FileMode(0o700)
	if who.other {
		mode = 0o711
	}
	if err := os.Mkdir(f.dir, mode); err != nil {
		return nil, fmt.Errorf("make folder of the drill: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make folder of the drill: %w", err), f.remove())
		}
	}()
	long := len(f.socket)+len(fmt.Sprintf("/.s.PGSQL.%d", port)) > longestSocket
	if long {
		if f.socket, err = os.MkdirTemp("", socketPrefix); err != nil {
			return f, err
		}
		f.mark.Socket = f.socket
	}
	if err := errors.Join(os.Chmod(f.dir, mode), f.write()); err != nil {
		return f, err
	}
	for _, dir := range []string{f.server, f.socket} {
		if err := os.Mkdir(dir, 0o700); err != nil && (!long || dir != f.socket) {
			return f, err
		}
		if err := who.give(dir); err != nil {
			return f, err
		}
	}
	return f, nil
}

// write replaces the mark.
func (f *field) write() error {
	b, err := json.Marshal(f.mark)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(f.dir, markName), b)
}

// remove removes everything of the drill.
func (f *field) remove() error { return remove(f.dir) }

// leave removes the drill's folder and gives the ground free.
func (g *Ground) leave(f *field) error {
	err := f.remove()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	return err
}
