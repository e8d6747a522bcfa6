package repo_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// inFIPS is set in the environment of the process that the test starts.
const inFIPS = "TUSKVAULT_TEST_FIPS"

// TestARepositoryIsMadeAndReadInFIPSMode runs a whole life of a repository in a
// process that ends at the first use of what FIPS 140-3 does not approve.
func TestARepositoryIsMadeAndReadInFIPSMode(t *testing.T) {
	if os.Getenv(inFIPS) != "" {
		lifeInFIPSMode(t)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"on", "only"} {
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestARepositoryIsMadeAndReadInFIPSMode$", "-test.v")
		cmd.Env = append(os.Environ(), inFIPS+"=1", "GODEBUG=fips140="+mode)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}

func lifeInFIPSMode(t *testing.T) {
	if !fips140.Enabled() {
		t.Fatal("FIPS mode is not on")
	}
	ctx := t.Context()
	store := mem.New()
	r, d, file := repotest.New(t, store)
	u, err := seal.NewPassphrase("a long enough passphrase") // by PBKDF2
	if err != nil {
		t.Fatal(err)
	}
	lost := repo.NewID()
	if err := r.AddKey(ctx, lost, u); err != nil {
		t.Fatal(err)
	}
	if err := r.PutCA(ctx, "0a", []byte("authority")); err != nil {
		t.Fatal(err)
	}
	epoch, err := r.ClaimEpoch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	log, err := repo.OpenLog(ctx, r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(ctx, repo.LogSynchronous, []byte("one")); err != nil {
		t.Fatal(err)
	}
	b := repotest.NewBackups(t, r, d)
	id := b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 30})
	if n, err := r.RotateMaster(ctx, log, []repo.Rewrap{r.Own()}, []repo.ID{lost}); n != 2 || err != nil {
		t.Fatalf("master key %d, %v", n, err)
	}
	again, err := repo.Open(ctx, store, file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := again.ReadSnapshot(ctx, b.Instance, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenReferences(d.Keys().Refs()); err != nil {
		t.Error(err)
	}
}
