package formatdoc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

// A golden repository is written once for each format, by `make golden`, and
// never again: every later program must read it. It lies in
// testdata/golden/FORMAT/repository; what is known of it is in known.json beside.
const goldenFolder = "../testdata/golden"

// maxGolden bounds a golden repository, in bytes: it is in every clone for ever.
const maxGolden = 300 << 10

// golden is known.json. Its secrets open a test's data and nothing else.
type golden struct {
	KeyFile    string `json:"key_file"`
	Passphrase string `json:"passphrase"`
	PBKDF2     string `json:"pbkdf2_passphrase"`
	Age        string `json:"age_identity"`
	// Streams are the SHA-256 of every stream: snapshot, database and table to digest.
	Streams map[string]string `json:"streams"`
	// Log are the payloads of the catalog log, the full record's last.
	Log []string `json:"log"`
	// Objects are the objects by key with their SHA-256.
	Objects map[string]string `json:"objects"`
}

func digests(streams map[string][]byte) map[string]string {
	out := map[string]string{}
	for at, b := range streams {
		sum := sha256.Sum256(b)
		out[at] = hex.EncodeToString(sum[:])
	}
	return out
}

// objects gives the SHA-256 of every file, and the bytes of all together.
func objects(t *testing.T, folder string) (map[string]string, int64) {
	t.Helper()
	out, total := map[string]string{}, int64(0)
	must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		sum := sha256.Sum256(b)
		out[filepath.ToSlash(rel)] = hex.EncodeToString(sum[:])
		total += int64(len(b))
		return err
	}))
	return out, total
}

// makeGolden writes a golden repository into a new folder.
func makeGolden(t *testing.T, folder string) {
	t.Helper()
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is there (%v): a golden repository is written once", folder, err)
	}
	known := golden{Passphrase: "golden argon2id", PBKDF2: "golden pbkdf2", Log: []string{"", "a batch of changes", "another", "all records"},
		Age: "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"}
	argon, err := seal.NewPassphraseKDF(known.Passphrase, seal.KDF{Kind: seal.WrapArgon2id, Time: 1, MemoryKiB: 64, Threads: 1})
	must(t, err)
	pbkdf2, err := seal.NewPassphraseKDF(known.PBKDF2, seal.KDF{Kind: seal.WrapPBKDF2, Time: 1000})
	must(t, err)
	identity, err := unlock.ParseIdentity(known.Age)
	must(t, err)
	store, err := dir.Create(filepath.Join(folder, "repository"))
	must(t, err)
	_, key := repotest.Whole(t, store, argon, pbkdf2, identity)
	known.KeyFile = string(key.Text())
	known.Streams = digests(byProduct(t, filepath.Join(folder, "repository"), key))
	var total int64
	if known.Objects, total = objects(t, filepath.Join(folder, "repository")); total > maxGolden {
		t.Fatalf("%d bytes are too many for a golden repository", total)
	}
	text, err := json.MarshalIndent(known, "", "  ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "known.json"), append(text, '\n'), 0o600))
	t.Logf("%s: %d objects, %d bytes, %d streams", folder, len(known.Objects), total, len(known.Streams))
}

// TestMakeGolden is `make golden`: it writes the golden repository of the format
// that this program writes, and fails if there is one.
func TestMakeGolden(t *testing.T) {
	if os.Getenv("TUSKVAULT_MAKE_GOLDEN") != "" {
		makeGolden(t, filepath.Join(goldenFolder, strconv.Itoa(repo.FormatNumber)))
		return
	}
	// What the one run will do, as long as nobody has asked for it.
	folder := filepath.Join(t.TempDir(), "golden")
	makeGolden(t, folder)
	openGolden(t, folder)
}

// TestEveryGoldenRepositoryOpens: of every format since the first.
func TestEveryGoldenRepositoryOpens(t *testing.T) {
	for n := 1; n <= repo.FormatNumber; n++ {
		t.Run(strconv.Itoa(n), func(t *testing.T) { openGolden(t, filepath.Join(goldenFolder, strconv.Itoa(n))) })
	}
}

func openGolden(t *testing.T, folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "known.json"))
	must(t, err)
	var known golden
	must(t, json.Unmarshal(text, &known))
	// A copy: tests must not write into the tree.
	copied := filepath.Join(t.TempDir(), "repository")
	must(t, os.CopyFS(copied, os.DirFS(filepath.Join(folder, "repository"))))
	if got, _ := objects(t, copied); !maps.Equal(got, known.Objects) {
		t.Fatalf("the golden repository was changed: it has %d objects, %d are known", len(got), len(known.Objects))
	}
	key, err := seal.ParseKeyFile([]byte(known.KeyFile))
	must(t, err)
	if got := digests(byProduct(t, copied, key)); !maps.Equal(got, known.Streams) {
		t.Errorf("rows differ: %d streams, %d are known", len(got), len(known.Streams))
	}
	unlockers := map[string]seal.Unlocker{"key file": key}
	for name, text := range map[string]string{"passphrase": known.Passphrase, "pbkdf2": known.PBKDF2} {
		unlockers[name], err = seal.NewPassphrase(text)
		must(t, err)
	}
	unlockers["age"], err = unlock.ParseIdentity(known.Age)
	must(t, err)
	store, err := dir.Open(copied)
	must(t, err)
	for name, u := range unlockers {
		r, err := repo.Open(t.Context(), store, u)
		if err != nil {
			t.Errorf("by its %s: %v", name, err)
			continue
		}
		report, err := check.Run(t.Context(), store, check.Options{Repository: r, Unlockers: []seal.Unlocker{u}, Dir: t.TempDir(), ReadData: true, Sample: check.Whole})
		must(t, err)
		if len(report.Findings) > 0 || report.SnapshotsChecked < 4 {
			t.Errorf("check by its %s: %d snapshots, %+v", name, report.SnapshotsChecked, report.Findings)
		}
	}
	r, err := repo.Open(t.Context(), store, key)
	must(t, err)
	goldenLog(t, r, known.Log)
	goldenWrite(t, r, store)
	compare(t, copied, key)
}

// goldenLog replays the catalog log, as a rebuild does.
func goldenLog(t *testing.T, r *repo.Repository, want []string) {
	t.Helper()
	var got []string
	for n := uint64(1); ; n++ {
		rec, _, err := r.LogRecord(t.Context(), n)
		if err != nil {
			break
		}
		got = append(got, string(rec.Payload))
	}
	last := ""
	_, err := r.ReplayLog(t.Context(), func(rec *repo.LogRecord) error { last = string(rec.Payload); return nil })
	must(t, err)
	if got = append(got, last); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("log: %q, want %q", got, want)
	}
	if _, err := r.CA(t.Context(), "0a1b2c"); err != nil {
		t.Error(err)
	}
}

// goldenWrite goes on writing: a new epoch, a new log record, a new domain and a
// snapshot in it.
func goldenWrite(t *testing.T, r *repo.Repository, store blob.Store) {
	t.Helper()
	epoch, err := r.ClaimEpoch(t.Context())
	must(t, err)
	log, err := repo.OpenLog(t.Context(), r, epoch)
	must(t, err)
	_, err = log.Append(t.Context(), repo.LogSynchronous, []byte("later"))
	must(t, err)
	id, err := r.CreateDomain(t.Context())
	must(t, err)
	d, err := r.Domain(t.Context(), id)
	must(t, err)
	b := repotest.NewBackups(t, r, d)
	b.Epoch = epoch
	b.Backup(repotest.Table{Database: "later", Name: "t", Rows: 20, Seed: "later"})
	report, err := check.Run(t.Context(), store, check.Options{Repository: r, Dir: t.TempDir(), ReadData: true, Sample: check.Whole})
	must(t, err)
	if len(report.Findings) > 0 {
		t.Errorf("after writing on: %+v", report.Findings)
	}
}
