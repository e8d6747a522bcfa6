package blobtest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob/dir"
)

// diskBlock is what a disk keeps or loses as one, in bytes. It is small, so that
// small objects can be torn too.
const diskBlock = 64

// Disk is a file system that loses at a power loss whatever POSIX lets it lose:
//
//   - of bytes written and not fsynced, any blocks in any order, and any part of
//     the file's length; a block that is lost reads as zeros;
//   - of names made or removed and not fsynced, any, in any order;
//   - everything below a folder whose own name is lost;
//   - of a file whose fsync failed, what was dirty then, although it can still be
//     read before the loss and a later fsync succeeds.
//
// Every change is made in a real folder as well, so reading goes through the
// operating system. Start gives a process's calls, to open a dir.Store on:
//
//	disk := blobtest.NewDisk(t, t.TempDir(), rng)
//	store, err := dir.OpenOn(disk.Start(), disk.Root())
//	disk.LoseAfter(n)       // or Lose
//	…                       // use the store until it fails
//	disk.Restart()          // what was left is in the folder now
//	store, err = dir.OpenOn(disk.Start(), disk.Root())
//
// It is a model of one machine: a store that was opened before the loss must not
// be read after it. Guard sees to that.
type Disk struct {
	t    testing.TB
	root string

	mu     sync.Mutex
	rng    *rand.Rand
	tree   *diskNode
	limit  int // calls that are answered yet; -1 for all
	steps  int
	epoch  int // of processes: those of earlier ones are dead
	kill   bool
	ended  bool
	lost   bool
	failed int // fsyncs that may fail yet
}

// diskNode is a file or a folder.
type diskNode struct {
	folder bool
	// data is a file's content as it reads, stable the part of it that is on the
	// platter: as long as what was fsynced, with zeros where a failed fsync lost it.
	data, stable []byte
	// names is a folder as it reads, durable as it is on the platter, and past what
	// each name that is not durable has stood for since the last fsync, nil for none.
	names, durable map[string]*diskNode
	past           map[string][]*diskNode
}

func newFolderNode() *diskNode {
	return &diskNode{folder: true, names: map[string]*diskNode{}, durable: map[string]*diskNode{}, past: map[string][]*diskNode{}}
}

func (n *diskNode) set(name string, to *diskNode) {
	if to == nil {
		delete(n.names, name)
	} else {
		n.names[name] = to
	}
	n.past[name] = append(n.past[name], to)
}

func (n *diskNode) syncNames() {
	n.durable = map[string]*diskNode{}
	for name, to := range n.names {
		n.durable[name] = to
	}
	clear(n.past)
}

// NewDisk makes an empty disk, mounted at an existing, empty folder. Fates are
// drawn from rng.
func NewDisk(t testing.TB, root string, rng *rand.Rand) *Disk {
	t.Helper()
	if names, err := os.ReadDir(root); err != nil || len(names) > 0 {
		t.Fatalf("disk: %s is not an empty folder: %v", root, err)
	}
	return &Disk{t: t, root: root, rng: rng, tree: newFolderNode(), limit: -1}
}

// Root is the folder that the disk is mounted at.
func (d *Disk) Root() string { return d.root }

// Start gives the calls of a new process. Those of earlier ones still work, until
// they are killed or the power goes.
func (d *Disk) Start() dir.Files {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = d.lost
	return diskProcess{d: d, epoch: d.epoch}
}

// LoseAfter lets n more calls (of every process) be made and answered. The next
// is made, perhaps, and never answered: the power goes.
func (d *Disk) LoseAfter(n int) { d.endAfter(n, false) }

// KillAfter is LoseAfter for kill -9: every process ends, nothing is lost.
func (d *Disk) KillAfter(n int) { d.endAfter(n, true) }

func (d *Disk) endAfter(n int, kill bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit, d.kill = d.steps+n, kill
}

// Lose cuts the power now.
func (d *Disk) Lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end(false)
}

// FailSyncs lets n of the next fsyncs fail with EIO, each with one chance in three.
func (d *Disk) FailSyncs(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = n
}

// Steps is the number of calls answered so far.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Ended tells whether the power is gone, or every process killed, since the last
// Start.
func (d *Disk) Ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// end is called with the lock held.
func (d *Disk) end(kill bool) {
	d.epoch++
	d.limit, d.ended = -1, true
	d.lost = d.lost || !kill
}

// Restart brings the machine up after a loss: the folder then holds what was
// left, all of it durable. Without a loss it is an error of the test.
func (d *Disk) Restart() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lost {
		d.t.Fatalf("disk: restart without a power loss")
	}
	d.lost = false
	d.tree = d.remains(d.tree, map[*diskNode]*diskNode{})
	names, err := os.ReadDir(d.root)
	for _, n := range names {
		if err == nil {
			err = os.RemoveAll(filepath.Join(d.root, n.Name()))
		}
	}
	if err == nil {
		err = layOut(d.tree, d.root, map[*diskNode]string{})
	}
	if err != nil {
		d.t.Fatalf("disk: restart: %v", err)
	}
}

// remains draws what is left of a node. One file with two names stays one.
func (d *Disk) remains(n *diskNode, done map[*diskNode]*diskNode) *diskNode {
	if r, ok := done[n]; ok {
		return r
	}
	if !n.folder {
		content := d.tornFile(n)
		r := &diskNode{data: content, stable: content}
		done[n] = r
		return r
	}
	r := newFolderNode()
	done[n] = r
	fates := map[string]*diskNode{}
	for name, to := range n.durable {
		fates[name] = to
	}
	for _, name := range sortedNames(n.past) {
		states := n.past[name]
		if i := d.rng.IntN(len(states) + 1); i < len(states) {
			fates[name] = states[i]
		}
	}
	for _, name := range sortedNames(fates) {
		if to := fates[name]; to != nil {
			r.names[name] = d.remains(to, done)
		}
	}
	r.syncNames()
	return r
}

// tornFile is what is left of a file: what is stable, and of the rest any length
// and any blocks.
func (d *Disk) tornFile(n *diskNode) []byte {
	length := len(n.stable) + d.rng.IntN(len(n.data)-len(n.stable)+1)
	switch d.rng.IntN(4) { // the ends are where mistakes are
	case 0:
		length = len(n.stable)
	case 1:
		length = len(n.data)
	}
	content := make([]byte, length)
	copy(content, n.stable)
	for at := len(n.stable); at < length; at += diskBlock {
		if d.rng.IntN(2) == 0 {
			copy(content[at:min(at+diskBlock, length)], n.data[at:])
		}
	}
	return content
}

func layOut(n *diskNode, path string, done map[*diskNode]string) error {
	for _, name := range sortedNames(n.names) {
		to, at := n.names[name], filepath.Join(path, name)
		var err error
		switch first, linked := done[to]; {
		case to.folder:
			if err = os.Mkdir(at, 0o700); err == nil {
				err = layOut(to, at, done)
			}
		case linked:
			err = os.Link(first, at)
		default:
			done[to] = at
			err = os.WriteFile(at, to.data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find gives the folder that a path's last name is in, and that name.
func (d *Disk) find(path string) (*diskNode, string, error) {
	rel, err := filepath.Rel(d.root, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return nil, "", &fs.PathError{Op: "find", Path: path, Err: fmt.Errorf("outside the disk: %w", syscall.EXDEV)}
	}
	parts := strings.Split(rel, string(filepath.Separator))
	at := d.tree
	for _, p := range parts[:len(parts)-1] {
		if at = at.names[p]; at == nil || !at.folder {
			return nil, "", &fs.PathError{Op: "find", Path: path, Err: syscall.ENOENT}
		}
	}
	return at, parts[len(parts)-1], nil
}

// folder gives the folder at a path, or ENOENT.
func (d *Disk) folder(path string) (*diskNode, error) {
	if filepath.Clean(path) == filepath.Clean(d.root) {
		return d.tree, nil
	}
	in, name, err := d.find(path)
	if err != nil {
		return nil, err
	}
	if node := in.names[name]; node != nil && node.folder {
		return node, nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
}
