// Package faultfs is a file system in memory, mounted with FUSE, that real
// programs are run on to see what they make of a power loss and of a disk that
// fails. It needs Linux, /dev/fuse and root.
package faultfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// block is what a disk keeps or loses as one: a sector.
const block = 512

// Op is a kind of call that can be made to fail.
type Op string

// The calls. Create stands for every change of names.
const (
	OpRead   Op = "read"
	OpList   Op = "list"
	OpWrite  Op = "write"
	OpFsync  Op = "fsync"
	OpCreate Op = "create"
)

// Disk is the file system. It keeps what POSIX lets it lose apart: sectors
// written and names changed since the last fsync of the file or folder. At a power
// loss each of them is kept or lost by itself, in any order.
//
// What it models of the rest: a rename is two changes of names in their folders,
// of which either may be lost; after a fsync that failed, what was dirty counts as
// clean although part of it is lost.
type Disk struct {
	path string

	mu     sync.Mutex
	rng    *rand.Rand
	root   *inode
	inodes uint64
	dead   bool
	lost   chan struct{} // closed when the power goes
	server *fuse.Server
	fault  func(op Op, path string) syscall.Errno
	faults int
	// changes counts calls that change or sync; the power goes at limit, if not 0.
	changes, limit int
}

// inode is a file or a folder.
type inode struct {
	number   uint64
	mode     uint32 // kind and permissions
	modified time.Time
	// A file: data as it reads, before what each dirty sector has on the platter, nil
	// for one that was not there; lost the same of sectors that a failed fsync took
	// for clean; stable the length that is on the platter.
	data         []byte
	before, lost map[int64][]byte
	stable       int64
	// A folder: names as it reads, durable as it is on the platter, past what each
	// changed name has stood for since the last fsync.
	names, durable map[string]*inode
	past           map[string][]*inode
}

func (i *inode) folder() bool { return i.mode&syscall.S_IFMT == syscall.S_IFDIR }

// Mount makes an empty disk and mounts it at an existing folder. Fates are drawn
// from rng.
func Mount(path string, rng *rand.Rand) (*Disk, error) {
	d := &Disk{path: path, rng: rng, lost: make(chan struct{})}
	d.root = d.make(syscall.S_IFDIR | 0o755)
	return d, d.mount()
}

func (d *Disk) make(mode uint32) *inode {
	d.inodes++
	i := &inode{number: d.inodes, mode: mode, modified: time.Now()}
	if i.folder() {
		i.names, i.durable, i.past = map[string]*inode{}, map[string]*inode{}, map[string][]*inode{}
	} else {
		i.before, i.lost = map[int64][]byte{}, map[int64][]byte{}
	}
	return i
}

func (d *Disk) mount() error {
	server, err := fs.Mount(d.path, &node{d: d, i: d.root}, &fs.Options{
		MountOptions:    fuse.MountOptions{DirectMountStrict: true, FsName: "faultfs", Name: "faultfs", MaxWrite: 1 << 20},
		RootStableAttr:  &fs.StableAttr{Mode: syscall.S_IFDIR, Ino: d.root.number},
		NullPermissions: true,
	})
	if err != nil {
		return fmt.Errorf("mount a FUSE file system at %s: %w", d.path, err)
	}
	d.server = server
	return nil
}

// Path is where the disk is mounted.
func (d *Disk) Path() string { return d.path }

// Lose cuts the power: every call fails from now on and changes nothing. The
// programs that used the disk have to be killed before Restart.
func (d *Disk) Lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
}

// LoseAfter cuts the power when n more changes and fsyncs have been made, of which
// the last are then in doubt. Lost is closed at that moment.
func (d *Disk) LoseAfter(n int) (lost <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = d.changes + n + 1
	return d.lost
}

// Changes counts the calls that changed or synced something.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes
}

// end is called with the lock held.
func (d *Disk) end() {
	if !d.dead {
		d.dead = true
		close(d.lost)
	}
}

// Restart mounts what is left.
func (d *Disk) Restart() error {
	if err := d.Unmount(); err != nil {
		return err
	}
	d.mu.Lock()
	d.root = d.remains(d.root, map[*inode]bool{})
	d.end()
	d.dead, d.fault, d.limit, d.lost = false, nil, 0, make(chan struct{})
	d.mu.Unlock()
	return d.mount()
}

// Unmount ends the disk's use.
func (d *Disk) Unmount() error {
	if err := syscall.Unmount(d.path, syscall.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount "+d.path, err)
	}
	d.server.Wait()
	return nil
}

// Fail makes calls fail as fn says, 0 for those that do not; nil ends that. Paths
// are below the mount.
func (d *Disk) Fail(fn func(op Op, path string) syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.faults = fn, 0
}

// Failed tells how many calls Fail has made fail.
func (d *Disk) Failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults
}

// Dirty tells how many sectors and names would be drawn for now.
func (d *Disk) Dirty() (sectors, names int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[*inode]bool{}
	var walk func(i *inode)
	walk = func(i *inode) {
		if seen[i] {
			return
		}
		seen[i] = true
		sectors, names = sectors+len(i.before), names+len(i.past)
		for _, to := range i.names {
			walk(to)
		}
	}
	walk(d.root)
	return sectors, names
}

// remains draws what is left of an inode.
func (d *Disk) remains(i *inode, done map[*inode]bool) *inode {
	if done[i] {
		return i
	}
	done[i] = true
	if !i.folder() {
		d.tear(i)
		return i
	}
	left := maps.Clone(i.durable)
	for _, name := range slices.Sorted(maps.Keys(i.past)) {
		states := i.past[name]
		if k := d.rng.IntN(len(states) + 1); k < len(states) {
			left[name] = states[k]
		}
	}
	i.names = map[string]*inode{}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if to := left[name]; to != nil {
			i.names[name] = d.remains(to, done)
		}
	}
	i.syncNames()
	return i
}

// tear draws what is left of a file: its length is the old or the new one or lies
// between them, each dirty sector is the old or the new one.
func (d *Disk) tear(i *inode) {
	for _, at := range slices.Sorted(maps.Keys(i.before)) {
		if d.rng.IntN(2) == 0 {
			i.restore(at, i.before[at])
		}
	}
	for at, old := range i.lost {
		i.restore(at, old)
	}
	clear(i.lost)
	if now := int64(len(i.data)); now != i.stable {
		low, high := min(now, i.stable), max(now, i.stable)
		size := []int64{low, high, low + d.rng.Int64N(high-low+1)}[d.rng.IntN(3)]
		i.resize(size)
	}
	i.settle()
}

// restore brings a sector back as it was.
func (i *inode) restore(at int64, old []byte) {
	from := at * block
	if from >= int64(len(i.data)) {
		return
	}
	sector := i.data[from:min(from+block, int64(len(i.data)))]
	n := copy(sector, old)
	clear(sector[n:])
}

// settle makes what a file is now durable.
func (i *inode) settle() {
	clear(i.before)
	i.stable = int64(len(i.data))
}

func (i *inode) resize(size int64) {
	if size <= int64(len(i.data)) {
		i.data = i.data[:size:size]
		return
	}
	i.data = append(i.data, make([]byte, size-int64(len(i.data)))...)
}

// soil keeps what the sectors of a range have on the platter, once.
func (i *inode) soil(from, to int64) {
	for at := from / block; at*block < to; at++ {
		if _, dirty := i.before[at]; dirty {
			continue
		}
		if old, lost := i.lost[at]; lost {
			i.before[at] = old
			delete(i.lost, at)
			continue
		}
		var old []byte
		if begin := at * block; begin < min(i.stable, int64(len(i.data))) {
			old = slices.Clone(i.data[begin:min(begin+block, i.stable, int64(len(i.data)))])
		}
		i.before[at] = old
	}
}

func (i *inode) write(b []byte, at int64) {
	i.soil(at, at+int64(len(b)))
	if end := at + int64(len(b)); end > int64(len(i.data)) {
		i.resize(end)
	}
	copy(i.data[at:], b)
	i.modified = time.Now()
}

func (i *inode) set(name string, to *inode) {
	if to == nil {
		delete(i.names, name)
	} else {
		i.names[name] = to
	}
	i.past[name] = append(i.past[name], to)
	i.modified = time.Now()
}

func (i *inode) syncNames() {
	i.durable = maps.Clone(i.names)
	clear(i.past)
}
