package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one running program. It dies with us.
type Process struct {
	// Log is the file that gets its output.
	Log string

	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	err  error
	peak int64
}

// startProcess starts a program whose output goes to the end of a log file.
func startProcess(log string, cmd *exec.Cmd) (*Process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the child has its own
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{Log: log, cmd: cmd, done: make(chan struct{})}
	go p.wait() // ends with the process; Stop and Kill wait for it
	return p, nil
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.err = err
	if u, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		p.peak = u.Maxrss << 10
	}
	p.mu.Unlock()
	close(p.done)
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal; a process that is gone is no error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait waits for the end and gives the exit code.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for process %d: %w", p.Pid(), context.Cause(ctx))
	}
}

// Exited tells whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopTime is how long a program may take to end after SIGTERM.
const stopTime = 30 * time.Second

// Stop ends the process with SIGTERM and gives its exit code; one that does
// not end in time is killed, and that is an error.
func (p *Process) Stop(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("process %d did not end within %s of SIGTERM", p.Pid(), stopTime), p.Kill())
	}
	return code, nil
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.done
	return err
}

// PeakMemory is the largest resident size so far, in bytes.
func (p *Process) PeakMemory() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err == nil {
		for line := range bytes.Lines(b) {
			if rest, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				return n << 10
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak
}

// ProcessorTime is user and system time so far, ours only, not of children.
func (p *Process) ProcessorTime() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	var ticks int64
	for _, s := range f[11:13] { // utime and stime, in hundredths of a second on Linux
		n, _ := strconv.ParseInt(s, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// Tail gives the end of the log.
func (p *Process) Tail() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8192):])
}
