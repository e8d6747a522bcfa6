//go:build !linux

package drill

import (
	"os/exec"
	"syscall"
)

// unsupported says why no drill can be held on this system.
const unsupported = "drills are held on Linux only: elsewhere nothing ends the server when the agent dies"

// process is a child that ends with us; there is none here.
type process struct {
	pid      int
	isolated bool
	done     chan struct{}
}

func child(*exec.Cmd, owner, syscall.Signal) {}

func start(func() *exec.Cmd, owner) (*process, error) { return nil, refusal(unsupported) }

func (p *process) stop(string) {}

func killInside(string) []int { return nil }

func runningData(string) []string { return nil }
