package faultfs

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an inode in one mount.
type node struct {
	fs.Inode
	d *Disk
	i *inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeLinker    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// begin takes the lock unless the call fails. The one who gets 0 unlocks.
func (n *node) begin(op Op, name string) syscall.Errno {
	n.d.mu.Lock()
	if n.d.dead {
		n.d.mu.Unlock()
		return syscall.EIO
	}
	if op == OpWrite || op == OpFsync || op == OpCreate {
		if n.d.changes++; n.d.changes == n.d.limit {
			n.d.end()
			n.d.mu.Unlock()
			return syscall.EIO
		}
	}
	if n.d.fault != nil && op != "" {
		path := n.Path(nil)
		if name != "" {
			path += "/" + name
		}
		if errno := n.d.fault(op, path); errno != 0 {
			n.d.faults++
			if op == OpFsync {
				n.d.dropDirty(n.i)
			}
			n.d.mu.Unlock()
			return errno
		}
	}
	return 0
}

// dropDirty is what a failed fsync leaves: part of the dirty sectors is lost, and
// the system takes all of them for clean. What reads meanwhile sees the new bytes.
// Names stay as undecided as they were.
func (d *Disk) dropDirty(i *inode) {
	for _, at := range slices.Sorted(maps.Keys(i.before)) {
		if d.rng.IntN(2) == 0 {
			i.lost[at] = i.before[at]
		}
		delete(i.before, at)
	}
}

func attributes(i *inode, out *fuse.Attr) {
	out.Ino, out.Mode, out.Size, out.Nlink = i.number, i.mode, uint64(len(i.data)), 1
	out.Blksize, out.Blocks = 4096, uint64(len(i.data)+511)/512
	out.SetTimes(&i.modified, &i.modified, &i.modified)
}

// child gives the node of an inode below this one; called with the lock held.
func (n *node) child(ctx context.Context, i *inode, out *fuse.EntryOut) *fs.Inode {
	attributes(i, &out.Attr)
	return n.NewInode(ctx, &node{d: n.d, i: i}, fs.StableAttr{Mode: i.mode & syscall.S_IFMT, Ino: i.number})
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.begin("", ""); errno != 0 {
		return nil, errno
	}
	defer n.d.mu.Unlock()
	if i := n.i.names[name]; i != nil {
		return n.child(ctx, i, out), 0
	}
	return nil, syscall.ENOENT
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	if errno := n.begin(OpList, ""); errno != 0 {
		return nil, errno
	}
	defer n.d.mu.Unlock()
	var all []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.i.names)) {
		i := n.i.names[name]
		all = append(all, fuse.DirEntry{Name: name, Mode: i.mode & syscall.S_IFMT, Ino: i.number})
	}
	return fs.NewListDirStream(all), 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if errno := n.begin("", ""); errno != 0 {
		return errno
	}
	defer n.d.mu.Unlock()
	attributes(n.i, &out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.begin(OpWrite, ""); errno != 0 {
		return errno
	}
	defer n.d.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		n.i.mode = n.i.mode&syscall.S_IFMT | mode&0o7777
	}
	if size, ok := in.GetSize(); ok {
		n.i.soil(min(int64(size), int64(len(n.i.data))), max(int64(size), int64(len(n.i.data))))
		n.i.resize(int64(size))
		n.i.modified = time.Now()
	}
	if t, ok := in.GetMTime(); ok {
		n.i.modified = t
	}
	attributes(n.i, &out.Attr)
	return 0
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.begin("", ""); errno != 0 {
		return nil, 0, errno
	}
	defer n.d.mu.Unlock()
	return nil, 0, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, into []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	if errno := n.begin(OpRead, ""); errno != 0 {
		return nil, errno
	}
	defer n.d.mu.Unlock()
	if at >= int64(len(n.i.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(into[:copy(into, n.i.data[at:])]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, b []byte, at int64) (uint32, syscall.Errno) {
	if errno := n.begin(OpWrite, ""); errno != 0 {
		return 0, errno
	}
	defer n.d.mu.Unlock()
	n.i.write(b, at)
	return uint32(len(b)), 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if errno := n.begin(OpFsync, ""); errno != 0 {
		return errno
	}
	defer n.d.mu.Unlock()
	if n.i.folder() {
		n.i.syncNames()
	} else {
		n.i.settle()
	}
	return 0
}

func (n *node) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.begin(OpCreate, name); errno != 0 {
		return nil, nil, 0, errno
	}
	defer n.d.mu.Unlock()
	if n.i.names[name] != nil {
		return nil, nil, 0, syscall.EEXIST
	}
	i := n.d.make(syscall.S_IFREG | mode&0o7777)
	n.i.set(name, i)
	return n.child(ctx, i, out), nil, 0, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.begin(OpCreate, name); errno != 0 {
		return nil, errno
	}
	defer n.d.mu.Unlock()
	if n.i.names[name] != nil {
		return nil, syscall.EEXIST
	}
	i := n.d.make(syscall.S_IFDIR | mode&0o7777)
	n.i.set(name, i)
	return n.child(ctx, i, out), 0
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.begin(OpCreate, name); errno != 0 {
		return nil, errno
	}
	defer n.d.mu.Unlock()
	if n.i.names[name] != nil {
		return nil, syscall.EEXIST
	}
	i := target.(*node).i
	n.i.set(name, i)
	return n.child(ctx, i, out), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno { return n.remove(name) }

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno { return n.remove(name) }

func (n *node) remove(name string) syscall.Errno {
	if errno := n.begin(OpCreate, name); errno != 0 {
		return errno
	}
	defer n.d.mu.Unlock()
	i := n.i.names[name]
	if i == nil {
		return syscall.ENOENT
	}
	if len(i.names) > 0 {
		return syscall.ENOTEMPTY
	}
	n.i.set(name, nil)
	return 0
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno := n.begin(OpCreate, name); errno != 0 {
		return errno
	}
	defer n.d.mu.Unlock()
	to := parent.(*node).i
	i, old := n.i.names[name], to.names[newName]
	switch {
	case flags&^1 != 0: // RENAME_NOREPLACE is known
		return syscall.EINVAL
	case i == nil:
		return syscall.ENOENT
	case old != nil && flags&1 != 0:
		return syscall.EEXIST
	case old != nil && len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	n.i.set(name, nil)
	to.set(newName, i)
	return 0
}

// Statfs says that there is room: 1 GiB.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.Blocks, out.Bfree, out.Bavail, out.NameLen = 4096, 4096, 1<<18, 1<<18, 1<<18, 255
	return 0
}
