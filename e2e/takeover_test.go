package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestAControllerThatWasStalledDuringARebuildStopsItself stops the old controller
// with SIGSTOP while another is made and lets it go on afterwards: it wakes up with
// everything it was about to do, and must not do it.
func TestAControllerThatWasStalledDuringARebuildStopsItself(t *testing.T) {
	d := newDisaster(t)
	want := digests(t, d.pg, "shop")
	first := backup(t, d.System, "--database", "shop")
	old := d.Controller
	// A backup is under way, so that the old one has something to write.
	id := func() string {
		var v jobs
		must(t, d.JSON(t.Context(), &v, "backup", "db1/main", "--database", "shop"))
		return v.Jobs[0].ID
	}()
	must(t, old.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = old.Signal(syscall.SIGCONT) }) // or it would not hear of its end
	d.State = filepath.Join(d.Dir, "other")
	d.rebuild("1 agents")
	records := d.records()
	must(t, old.Signal(syscall.SIGCONT))
	code, err := old.Wait(t.Context())
	must(t, err)
	if tail := old.Tail(); code != 9 || !strings.Contains(tail, "another controller (epoch 2) has taken over") {
		t.Errorf("the old controller: exit code %d\n%s", code, tail)
	}
	after := d.records()
	for _, r := range records {
		if !slices.Contains(after, r) {
			t.Errorf("record %s is gone", r)
		}
	}
	d.returns()
	d.restores(first, "again", want)
	// The job that was under way may be known or not; if it is, it ends.
	if d.Ctl(t.Context(), "job", "show", id).Code == 0 {
		_ = d.Ctl(t.Context(), "job", "watch", id)
		if j := job(t, d.System, id); !strings.Contains("JOB_STATE_SUCCEEDED JOB_STATE_FAILED JOB_STATE_CANCELED", j.State) {
			t.Errorf("the job that was under way: %+v", j)
		}
	}
	second := backup(t, d.System, "--database", "shop")
	d.restores(second, "afterwards", want)
	ok(t, d.System, "repo", "check", "--read-data")
}
