package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func open(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func load(t *testing.T, j *journal.Journal) []journal.Entry {
	t.Helper()
	entries, bad, err := j.Load()
	if err != nil || len(bad) != 0 {
		t.Fatalf("%v %v", bad, err)
	}
	return entries
}

// entry is that of attempt n of a job.
func entry(n uint64) journal.Entry {
	return journal.Entry{Ref: job.Ref{ID: repo.NewID(), Fence: repo.Fence{Epoch: 3, Counter: n}}, Kind: job.KindBackup, Instance: "main",
		Started: time.Now().UTC().Truncate(time.Microsecond)}
}

func TestAnEntryLivesFromBeginOverEndToRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	e := entry(1)
	if err := open(t, dir).Begin(e); err != nil {
		t.Fatal(err)
	}
	got := load(t, open(t, dir))
	if len(got) != 1 || got[0].Ref != e.Ref || got[0].Result != nil || got[0].Kind != e.Kind || got[0].Instance != "main" || !got[0].Started.Equal(e.Started) {
		t.Fatalf("begun: %+v", got)
	}
	result := job.Result{Outcome: job.Failed, Err: "no", Retryable: true, Started: e.Started, Ended: e.Started,
		Problems:  []repo.Problem{{Severity: "error", Database: pg.Name("sql\xffascii"), Reason: "bytes survive"}},
		Stats:     job.Stats{Rows: 1 << 60, NewChunks: 2},
		Databases: []job.DatabaseResult{{Database: "d", Complete: true, Duration: time.Second}}, Plan: []string{"a", "b"}}
	if err := open(t, dir).End(e, result); err != nil {
		t.Fatal(err)
	}
	if got = load(t, open(t, dir)); len(got) != 1 {
		t.Fatalf("ended: %+v", got)
	}
	if diff := cmp.Diff(&result, got[0].Result); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := open(t, dir).Remove(e.Ref); err != nil {
			t.Error(err)
		}
	}
	if got := load(t, open(t, dir)); len(got) != 0 {
		t.Errorf("removed: %+v", got)
	}
}

func TestEntriesComeInTheOrderOfTheirAttempts(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal"))
	for _, n := range []uint64{30, 4, 100} {
		if err := j.Begin(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
	got := load(t, j)
	for i, want := range []uint64{4, 30, 100} {
		if got[i].Ref.Fence.Counter != want {
			t.Errorf("entry %d: attempt %s, want %d", i, got[i].Ref, want)
		}
	}
}

func TestADamagedEntryIsSetAsideAndTheOthersAreRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, dir)
	good := entry(1)
	if err := j.Begin(good); err != nil {
		t.Fatal(err)
	}
	other := entry(2)
	if err := j.Begin(other); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, other.Ref.Text()+".json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{
		entry(3).Ref.Text() + ".json": "{",
		entry(4).Ref.Text() + ".json": string(text), // another attempt's bytes
		entry(5).Ref.Text() + ".json": strings.Replace(string(text), `"version":1`, `"version":9`, 1),
		"x.json":                      string(text),
		good.Ref.Text() + ".json.new": "half a write that a crash cut off",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, bad, err := j.Load()
	if err != nil || len(entries) != 2 || len(bad) != 4 {
		t.Fatalf("%d entries, %d set aside, %v", len(entries), len(bad), err)
	}
	for _, err := range bad {
		if !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
			t.Errorf("%v", err)
		}
	}
	if entries, bad, err := j.Load(); err != nil || len(entries) != 2 || len(bad) != 0 {
		t.Errorf("the second time: %d entries, %d set aside, %v", len(entries), len(bad), err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*.bad"))
	if err != nil || len(aside) != 4 {
		t.Errorf("%d files kept for people, %v", len(aside), err)
	}
}

func TestAJournalThatCannotBeWrittenSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	e := entry(1)
	if err := j.Begin(e); err == nil || !strings.Contains(err.Error(), e.Ref.String()) {
		t.Errorf("%v", err)
	}
	if _, _, err := j.Load(); err == nil {
		t.Error("a journal that is gone was read")
	}
}
