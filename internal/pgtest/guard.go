package pgtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// script runs the server under orders from its standard input. When that ends,
// for whatever reason, the server is stopped and, unless told "keep", its
// folder removed. Signals of a terminal are ignored: only the pipe counts.
const script = `
dir=$1; shift; pid=; keep=
trap '' INT TERM HUP PIPE
stop() { if [ -n "$pid" ]; then kill -"$1" $pid 2>/dev/null; wait $pid 2>/dev/null; pid=; fi; }
while read -r order; do
  case $order in
    start) "$@" </dev/null >>"$dir/log" 2>&1 & pid=$! ;;
    stop) stop INT ;;
    crash) stop QUIT ;;
    alive) if [ -n "$pid" ] && kill -0 $pid 2>/dev/null; then echo yes; else echo no; fi; continue ;;
    keep) keep=1 ;;
  esac
  echo ok
done
stop QUIT
[ -n "$keep" ] || rm -rf "$dir"
`

// guard is the supervising shell.
type guard struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startGuard(dir string, cred *syscall.Credential, server []string) (*guard, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "pgtest", dir}, server...)...)
	cmd.Env = cleanEnv()
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	// A process group of its own keeps Ctrl-C away from the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervising shell: %w", err)
	}
	return &guard{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// ask sends an order and returns the answer.
func (g *guard) ask(order string) (string, error) {
	if _, err := io.WriteString(g.in, order+"\n"); err != nil {
		return "", fmt.Errorf("tell supervising shell to %s: %w", order, err)
	}
	answer, err := g.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("tell supervising shell to %s: %w", order, err)
	}
	return answer, nil
}

func (g *guard) tell(order string) error { _, err := g.ask(order); return err }

// alive tells whether the server runs.
func (g *guard) alive() bool { a, err := g.ask("alive"); return err == nil && a == "yes\n" }

// leave closes the pipe and waits until the shell has cleaned up.
func (g *guard) leave() error {
	if err := g.in.Close(); err != nil {
		return err
	}
	late := time.AfterFunc(stopTime, func() { _ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w: %w", err, errs.Timeout)
	}
	return nil
}
