package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/e2e/harness"
)

// follower is a running "tuskctl events --follow -o json".
type follower struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []eventLine
	err   strings.Builder
}

type eventLine struct {
	Sequence int64  `json:"sequence"`
	Kind     string `json:"kind"`
	JobID    string `json:"job_id"`
	Agent    string `json:"agent"`
	Progress *struct {
		Databases []struct {
			Tables []struct {
				Table string `json:"table"`
				Phase string `json:"phase"`
			} `json:"tables"`
		} `json:"databases"`
	} `json:"progress"`
	Gap *struct {
		Reason string `json:"reason"`
	} `json:"gap"`
}

// follow starts a follower, which ends with the test.
func follow(t *testing.T, s *harness.System, args ...string) *follower {
	t.Helper()
	f := &follower{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), s.Bin.Ctl, append([]string{"events", "--follow", "-o", "json"}, args...)...)}
	f.cmd.Env = append(os.Environ(), "TUSKCTL_CONFIG="+filepath.Join(s.ControllerDir(), "admin-context.yaml"))
	out, err := f.cmd.StdoutPipe()
	must(t, err)
	complaints, err := f.cmd.StderrPipe()
	must(t, err)
	must(t, f.cmd.Start())
	var readers sync.WaitGroup
	readers.Go(func() { f.read(t, out) })
	readers.Go(func() {
		b, _ := io.ReadAll(complaints) // ends with the process
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err.Write(b)
	})
	t.Cleanup(func() {
		_ = f.cmd.Process.Signal(os.Interrupt) // it may have ended
		readers.Wait()
		if err := f.cmd.Wait(); err != nil {
			t.Errorf("tuskctl events: %v: %s", err, f.err.String())
		}
	})
	return f
}

func (f *follower) read(t *testing.T, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var l eventLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Errorf("no JSON on a line of its own: %q", lines.Text())
		}
		f.mu.Lock()
		f.lines = append(f.lines, l)
		f.mu.Unlock()
	}
}

// sees waits for a line that ok accepts.
func (f *follower) sees(t *testing.T, s *harness.System, what string, ok func(eventLine) bool) (found eventLine) {
	t.Helper()
	must(t, s.Eventually(t.Context(), "the follower is told: "+what, nil, func() (bool, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		i := slices.IndexFunc(f.lines, ok)
		if i >= 0 {
			found = f.lines[i]
		}
		return i >= 0, nil
	}))
	return found
}

func of(kind, job string) func(eventLine) bool {
	return func(l eventLine) bool { return l.Kind == "EVENT_KIND_"+kind && (job == "" || l.JobID == job) }
}

func TestAFollowerSeesWhatHappensOverARestartOfTheController(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.01)
	s := running(t, pg)
	f := follow(t, s, "--since", "0")
	f.sees(t, s, "an agent has enrolled", of("AGENT_ENROLLED", ""))
	f.sees(t, s, "it is online", of("AGENT_ONLINE", ""))
	id := backup(t, s, "--database", source)
	for _, kind := range []string{"JOB_QUEUED", "JOB_LEASED", "JOB_RUNNING", "SNAPSHOT_COMMITTED", "JOB_SUCCEEDED"} {
		f.sees(t, s, kind+" of the backup", of(kind, id))
	}
	if out := ok(t, s, "events", "--kind", "job-succeeded"); !strings.Contains(out, id[:8]) {
		t.Errorf("the list does not have the backup: %s", out)
	}

	_, err := s.Controller.Stop(t.Context())
	must(t, err)
	must(t, s.StartController(t.Context()))
	f.sees(t, s, "something may be missing", func(l eventLine) bool { return l.Gap != nil && strings.Contains(l.Gap.Reason, "restarted") })
	must(t, s.Online(t.Context(), "db1/main"))
	second := backup(t, s, "--database", source)
	last := f.sees(t, s, "the second backup", of("JOB_SUCCEEDED", second))
	f.mu.Lock()
	defer f.mu.Unlock()
	var previous int64
	for _, l := range f.lines {
		if l.Gap == nil && l.Sequence <= previous {
			t.Errorf("event %d came after %d", l.Sequence, previous)
		}
		previous = max(previous, l.Sequence)
	}
	if last.Sequence >= 1<<53 {
		t.Errorf("number %d loses digits in readers of JSON", last.Sequence)
	}
}

func TestProgressNamesTheTableThatIsRead(t *testing.T) {
	pg := shared.Server(t)
	source := pg.Database(t)
	sql(t, pg, source, "CREATE UNLOGGED TABLE big AS SELECT i, repeat(md5(i::text), 20) AS x FROM generate_series(1, 800000) i", "ANALYZE")
	s := running(t, pg)
	f := follow(t, s, "--progress", "--kind", "job")
	var v jobs
	must(t, s.JSON(t.Context(), &v, "backup", "db1/main", "--database", source))
	id := v.Jobs[0].ID
	var shown struct {
		Job struct {
			Progress *struct {
				BytesPerSecond int64 `json:"bytes_per_second"`
				SecondsLeft    int64 `json:"seconds_left"`
				Databases      []struct {
					Tables []struct {
						Table     string `json:"table"`
						Phase     string `json:"phase"`
						RowsTotal int64  `json:"rows_total"`
						Estimated bool   `json:"estimated"`
					} `json:"tables"`
				} `json:"databases"`
			} `json:"progress"`
		} `json:"job"`
	}
	must(t, s.Eventually(t.Context(), "the progress has a rate", nil, func() (bool, error) {
		err := s.JSON(t.Context(), &shown, "job", "show", id)
		p := shown.Job.Progress
		return p != nil && p.BytesPerSecond > 0 && p.SecondsLeft > 0 && len(p.Databases) == 1 && len(p.Databases[0].Tables) == 1, err
	}))
	// However fast the machine is: it goes no further while the follower is waited for.
	must(t, s.Agents["db1"].Signal(syscall.SIGSTOP))
	if b := shown.Job.Progress.Databases[0].Tables[0]; b.Table != "public.big" || b.Phase != "copying" || b.RowsTotal < 600_000 || !b.Estimated {
		t.Errorf("%+v", b)
	}
	f.sees(t, s, "the table that is read", func(l eventLine) bool {
		return l.Kind == "EVENT_KIND_JOB_PROGRESS" && l.JobID == id && len(l.Progress.Databases) == 1 && len(l.Progress.Databases[0].Tables) == 1 && l.Progress.Databases[0].Tables[0].Table == "public.big"
	})
	must(t, s.Agents["db1"].Signal(syscall.SIGCONT))
	ok(t, s, "job", "cancel", id)
	f.sees(t, s, "the end", of("JOB_CANCELED", id))
}

func TestARestoreIsEstimatedFromThoseBefore(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	const none = "time: no past restore to estimate from"
	dry := func() string {
		return ok(t, s, "restore", id, "--to", "db1/main", "--database", source+"="+source+"_x", "--dry-run")
	}
	if out := dry(); !strings.Contains(out, none) {
		t.Errorf("before any restore: %s", out)
	}
	ok(t, s, "restore", id, "--to", "db1/main", "--database", source+"="+dropLater(t, pg, source+"_1"), "--wait")
	if out := dry(); !strings.Contains(out, "by 1 past restore at ") {
		t.Errorf("after one: %s", out)
	}
	start := time.Now()
	ok(t, s, "restore", id, "--to", "db1/main", "--database", source+"="+dropLater(t, pg, source+"_2"), "--wait")
	t.Logf("the restore took %s", time.Since(start))
	if out := dry(); !strings.Contains(out, "by 2 past restores at ") {
		t.Errorf("after two: %s", out)
	}
}
