// Package harness runs the three programs as processes against real servers,
// for tests of the whole, the demo and the benchmarks. What it starts dies
// with the process that started it.
package harness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Binaries are the paths of the programs.
type Binaries struct{ Controller, Agent, Ctl string }

// BinariesIn names the programs in a folder and checks that they are there.
func BinariesIn(dir string) (Binaries, error) {
	b := Binaries{filepath.Join(dir, "tuskvault-controller"), filepath.Join(dir, "tuskvault-agent"), filepath.Join(dir, "tuskctl")}
	for _, p := range []string{b.Controller, b.Agent, b.Ctl} {
		if _, err := os.Stat(p); err != nil {
			return b, fmt.Errorf("find programs: %w", err)
		}
	}
	return b, nil
}

// Build compiles the programs into a folder. root is the folder of go.work.
func Build(ctx context.Context, root, dir string, flags ...string) (Binaries, error) {
	for _, pkg := range []string{"./controller/cmd/tuskvault-controller", "./agent/cmd/tuskvault-agent", "./ctl/cmd/tuskctl"} {
		args := append(append([]string{"build"}, flags...), "-o", dir+string(filepath.Separator), pkg)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return Binaries{}, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return BinariesIn(dir)
}

// System is one controller with its agents.
type System struct {
	Bin Binaries
	// Dir holds the state folders, the store, configurations and logs.
	Dir string
	// Addr is where the controller listens.
	Addr string
	// Store is the URL of the repository's store.
	Store string
	// State is the controller's state folder where it is not the usual one.
	State string
	// Ballast is the controller's prune.ballast; none by default, since every test has a store.
	Ballast string
	// Controller is the running controller, nil when there is none.
	Controller *Process
	// Agents are the running agents by name.
	Agents map[string]*Process
}

// New prepares a system in an existing folder. Nothing runs yet.
func New(bin Binaries, dir string) (*System, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return &System{Bin: bin, Dir: dir, Addr: addr, Store: "file://" + filepath.Join(dir, "store"), Agents: map[string]*Process{}}, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ControllerDir is the controller's state folder.
func (s *System) ControllerDir() string { return cmp.Or(s.State, filepath.Join(s.Dir, "controller")) }

// AgentDir is an agent's state folder.
func (s *System) AgentDir(name string) string { return filepath.Join(s.Dir, "agent-"+name) }

// StoreDir is the folder of a local store.
func (s *System) StoreDir() string { return strings.TrimPrefix(s.Store, "file://") }

// Init makes repository, certificates and the first admin context.
func (s *System) Init(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.Bin.Controller, append([]string{"init", "--state-dir", s.ControllerDir(), "--store", s.Store, "--listen", s.Addr}, args...)...)
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tuskvault-controller init: %w\n%s", err, out)
	}
	return nil
}

// Rebuild makes the controller's state folder again from the store and a key.
func (s *System) Rebuild(ctx context.Context, unlock string, args ...string) Result {
	all := append([]string{"rebuild", "--state-dir", s.ControllerDir(), "--store", s.Store, "--listen", s.Addr, "--unlock", unlock}, args...)
	return run(exec.CommandContext(ctx, s.Bin.Controller, all...), cleanEnv(), all)
}

// StartController starts the controller and waits until it answers.
func (s *System) StartController(ctx context.Context, args ...string) error {
	cmd := exec.Command(s.Bin.Controller, append([]string{"run", "--state-dir", s.ControllerDir()}, args...)...)
	cmd.Env = append(cleanEnv(), "TUSKVAULT_PRUNE_BALLAST="+cmp.Or(s.Ballast, "0"))
	p, err := startProcess(filepath.Join(s.Dir, "controller.log"), cmd)
	if err != nil {
		return err
	}
	s.Controller = p
	return s.Eventually(ctx, "the controller answers", p, func() (bool, error) {
		return s.Ctl(ctx, "status").Code == 0, nil
	})
}

// StartAgent starts an agent; token is empty when it is enrolled already. env
// says how it reaches PostgreSQL.
func (s *System) StartAgent(ctx context.Context, name, token string, env []string, args ...string) error {
	all := []string{"run", "--state-dir", s.AgentDir(name), "--name", name}
	if token != "" {
		all = append(all, "--controller", s.Addr)
		env = append(env, "TUSKVAULT_TOKEN="+token)
	}
	cmd := exec.Command(s.Bin.Agent, append(all, args...)...)
	cmd.Env = append(cleanEnv(), env...)
	p, err := startProcess(filepath.Join(s.Dir, "agent-"+name+".log"), cmd)
	if err != nil {
		return err
	}
	s.Agents[name] = p
	return nil
}

// Enroll makes a token, starts an agent with it and waits until its instance is online.
func (s *System) Enroll(ctx context.Context, name string, env []string, args ...string) error {
	r := s.Ctl(ctx, "agent", "token", "create", "--name", name, "-o", "name")
	if err := r.Err(); err != nil {
		return err
	}
	if err := s.StartAgent(ctx, name, strings.TrimSpace(r.Stdout), env, args...); err != nil {
		return err
	}
	return s.Online(ctx, name+"/main")
}

// Online waits until an instance is online and reachable.
func (s *System) Online(ctx context.Context, instance string) error {
	agent, _, _ := strings.Cut(instance, "/")
	return s.Eventually(ctx, "instance "+instance+" is online", s.Agents[agent], func() (bool, error) {
		var v struct {
			Instance struct {
				AgentOnline bool `json:"agent_online"`
				Inventory   struct {
					Reachable bool `json:"reachable"`
				} `json:"inventory"`
			} `json:"instance"`
		}
		r := s.Ctl(ctx, "instance", "show", instance, "-o", "json")
		return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &v) == nil && v.Instance.AgentOnline && v.Instance.Inventory.Reachable, nil
	})
}

// Patience bounds every wait of the harness.
const Patience = 60 * time.Second

// Eventually asks until the answer is yes. It ends at once when p has exited.
func (s *System) Eventually(ctx context.Context, what string, p *Process, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		if p != nil && p.Exited() {
			return fmt.Errorf("wait until %s: the program ended:\n%s", what, p.Tail())
		}
		select {
		case <-ctx.Done():
			tail := ""
			if p != nil {
				tail = "\n" + p.Tail()
			}
			return fmt.Errorf("wait until %s: %w%s", what, context.Cause(ctx), tail)
		case <-tick.C:
		}
	}
}

// Result is what one run of a program gave.
type Result struct {
	Program        string
	Args           []string
	Stdout, Stderr string
	Code           int
}

// Err is an error unless the exit code is 0.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("%s %s: exit code %d\n%s%s", r.Program, strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Ctl runs tuskctl as the first admin.
func (s *System) Ctl(ctx context.Context, args ...string) Result {
	return s.CtlAs(ctx, filepath.Join(s.ControllerDir(), "admin-context.yaml"), args...)
}

// CtlAs runs tuskctl with a file of contexts.
func (s *System) CtlAs(ctx context.Context, contexts string, args ...string) Result {
	return run(exec.CommandContext(ctx, s.Bin.Ctl, args...), append(cleanEnv(), "TUSKCTL_CONFIG="+contexts), args)
}

func run(cmd *exec.Cmd, env, args []string) Result {
	cmd.Env = env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	r := Result{Program: filepath.Base(cmd.Path), Args: args, Stdout: out.String(), Stderr: errOut.String(), Code: cmd.ProcessState.ExitCode()}
	if err != nil && r.Code <= 0 {
		r.Code, r.Stderr = -1, r.Stderr+err.Error()
	}
	return r
}

// JSON runs tuskctl with -o json and decodes the answer.
func (s *System) JSON(ctx context.Context, into any, args ...string) error {
	r := s.Ctl(ctx, append(args, "-o", "json")...)
	if err := r.Err(); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(r.Stdout), into); err != nil {
		return fmt.Errorf("tuskctl %s: answer is no JSON: %w\n%s", strings.Join(args, " "), err, r.Stdout)
	}
	return nil
}

// Close ends everything in the reverse order of starting. Exit codes other
// than 0 after SIGTERM are errors.
func (s *System) Close(ctx context.Context) error {
	var errsAll []error
	for _, name := range slices.Sorted(maps.Keys(s.Agents)) {
		errsAll = append(errsAll, stop(ctx, "agent "+name, s.Agents[name]))
	}
	return errors.Join(append(errsAll, stop(ctx, "controller", s.Controller))...)
}

func stop(ctx context.Context, what string, p *Process) error {
	if p == nil || p.Exited() {
		return nil
	}
	code, err := p.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d after SIGTERM", code)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w\n%s", what, err, p.Tail())
	}
	return nil
}

// cleanEnv is our environment without what would change what the programs do.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "PG") || strings.HasPrefix(e, "TUSK") || strings.HasPrefix(e, "NO_COLOR")
	})
}
