package drill

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unsupported says why no drill can be held on this system, or is empty.
const unsupported = ""

// process is a child that ends with us.
type process struct {
	pid      int
	isolated bool
	done     chan struct{} // closed when it has ended
}

// child sets what every child has: its user, a process group of its own, so that
// Ctrl-C reaches us first, and a signal when we die. A server that gets SIGQUIT
// ends its own children and itself at once.
func child(cmd *exec.Cmd, who owner, death syscall.Signal) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if who.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
}

// start starts a server, without network and with shared memory of its own where
// the kernel lets us, else as it is.
//
// For the kernel the death of the thread that started a child is the death of
// its parent. So one goroutine starts it, keeps its thread, and waits.
func start(command func() *exec.Cmd, who owner) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() { // ends with the process; whoever stops the server waits for done
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd, err := p.launch(command, who)
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, nil
}

func (p *process) launch(command func() *exec.Cmd, who owner) (*exec.Cmd, error) {
	var refused error
	for _, isolated := range []bool{true, false} {
		cmd := command()
		child(cmd, who, syscall.SIGQUIT)
		if isolated {
			isolate(cmd.SysProcAttr)
		}
		err := cmd.Start()
		if err == nil {
			p.pid, p.isolated = cmd.Process.Pid, isolated
			lower(p.pid)
			return cmd, nil
		}
		refused = err
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EACCES) {
			break
		}
	}
	return nil, refused
}

// isolate gives a child namespaces of its own: a network with nothing in it, and
// System V shared memory that goes when it does. Who is not root needs a user
// namespace for that, in which it is still itself.
func isolate(a *syscall.SysProcAttr) {
	a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
}

// lower makes a process, and what it will start, wait for everybody else: nice
// 10, and the last place in the queue of the disk. Where that is not allowed it
// stays as it is.
func lower(pid int) {
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, 10)
	const whoProcess, bestEffort, last = 1, 2, 7
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(pid), bestEffort<<13|last)
}

// stop ends a server at once, as one that is thrown away can be, and waits until
// nothing of it runs.
func (p *process) stop(data string) {
	_ = syscall.Kill(p.pid, syscall.SIGQUIT) // it may have ended already
	late := time.NewTimer(stopTime)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
		<-p.done
	}
	killInside(data)
}

// killInside ends every PostgreSQL process that works in a data directory, and
// waits, for at most stopTime, until none is left. A process of PostgreSQL is in
// its data directory as long as it lives; nothing else is ever signaled.
func killInside(data string) (left []int) {
	deadline := time.NewTimer(stopTime)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if left = inside(data); len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return left
		}
	}
}

// inside lists the PostgreSQL processes whose working folder is a data directory.
func inside(data string) []int {
	var pids []int
	eachServer(func(pid int, folder string) {
		if folder == data {
			pids = append(pids, pid)
		}
	})
	return pids
}

// runningData lists the data directories of the servers of this host, but for
// those below a folder.
func runningData(but string) []string {
	seen := map[string]bool{}
	var all []string
	eachServer(func(_ int, folder string) {
		if !seen[folder] && !within(folder, but) {
			seen[folder] = true
			all = append(all, folder)
		}
	})
	return all
}

// eachServer calls fn for every process that runs a program called postgres, with
// its working folder, as far as we may look.
func eachServer(fn func(pid int, folder string)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
			continue
		}
		if cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")); err == nil {
			fn(pid, strings.TrimSuffix(cwd, " (deleted)"))
		}
	}
}
