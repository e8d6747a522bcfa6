package formatdoc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
const maxGolden = 400 << 10

// golden is known.json. Its secrets open a test's data and nothing else.
type golden struct {
	KeyFile    string `json:"key_file"`
	Passphrase string `json:"passphrase"`
	PBKDF2     string `json:"pbkdf2_passphrase"`
	Age        string `json:"age_identity"`
	// Sheet is the recovery sheet of the key file.
	Sheet []string `json:"recovery_sheet"`
	// Streams are the SHA-256 of every stream: snapshot, database and table to digest.
	Streams map[string]string `json:"streams"`
	// Log are the payloads of the catalog log, the full record's last.
	Log [][]byte `json:"log"`
	// Authorities are the serial numbers of the certificate authorities.
	Authorities []string `json:"authorities"`
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
	known := golden{Passphrase: "golden argon2id", PBKDF2: "golden pbkdf2",
		Age: "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"}
	argon, err := seal.NewPassphraseKDF(known.Passphrase, seal.KDF{Kind: seal.WrapArgon2id, Time: 1, MemoryKiB: 64, Threads: 1})
	must(t, err)
	pbkdf2, err := seal.NewPassphraseKDF(known.PBKDF2, seal.KDF{Kind: seal.WrapPBKDF2, Time: 1000})
	must(t, err)
	identity, err := unlock.ParseIdentity(known.Age)
	must(t, err)
	store, err := dir.Create(filepath.Join(folder, "repository"))
	must(t, err)
	r, key := repotest.Whole(t, store, argon, pbkdf2, identity)
	known.KeyFile, known.Sheet = string(key.Text()), unlock.Sheet(key)
	known.Log = payloads(t, r)
	must(t, r.CAs(t.Context(), func(serial string) error { known.Authorities = append(known.Authorities, serial); return nil }))
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
	unlockers["recovery sheet"], err = unlock.ParseSheet(strings.Join(known.Sheet, "\n"))
	must(t, err)
	store, err := dir.Open(copied)
	must(t, err)
	goldenKinds(t, known.Objects)
	for name, u := range unlockers {
		r, err := repo.Open(t.Context(), store, u)
		if err != nil {
			t.Errorf("by its %s: %v", name, err)
			continue
		}
		if r.Master() != repotest.WholeMaster {
			t.Errorf("by its %s: master key %d", name, r.Master())
		}
		report, err := check.Run(t.Context(), store, check.Options{Repository: r, Unlockers: []seal.Unlocker{u}, Dir: t.TempDir(), ReadData: true, Sample: check.Whole})
		must(t, err)
		if len(report.Findings) > 0 || report.SnapshotsChecked != repotest.WholeSnapshots+1 { // and the abort marker
			t.Errorf("check by its %s: %d snapshots, %+v", name, report.SnapshotsChecked, report.Findings)
		}
	}
	r, err := repo.Open(t.Context(), store, key)
	must(t, err)
	goldenLog(t, r, copied, &known)
	goldenWithoutIndex(t, copied, key, known.Streams)
	goldenWrite(t, r, store)
	compare(t, copied, key)
}

// goldenKinds sees that nothing of what the format has is missing.
func goldenKinds(t *testing.T, objects map[string]string) {
	t.Helper()
	const n = "[0-9]{20}"
	for pattern, least := range map[string]int{
		"repository.json": 1, "keys/[0-9a-f]{32}": 4, "keys/[0-9a-f]{32}-" + n: 8, "keys/master-" + n: 2, "domains/[0-9a-f]{32}/" + n: 6,
		"ca/[0-9a-f]+": 2, "ca/[0-9a-f]+-" + n: 4, "epochs/" + n: 2, "packs/[0-9a-f]{32}/../[0-9a-f]{64}": 6, "index/[0-9a-f]{32}/[0-9a-f]{64}": 4,
		"snapshots/[0-9a-f]{32}/[0-9a-f]{32}": repotest.WholeSnapshots + 1, "catalog/" + n + ".log": 10, "catalog/" + n + ".full": 1, "ballast/" + n: 1, "quarantine/[0-9a-f]{64}/.+": 1,
	} {
		of, found := regexp.MustCompile("^"+pattern+"$"), 0
		for key := range objects {
			if of.MatchString(key) {
				found++
			}
		}
		if found < least {
			t.Errorf("%d objects %s, want at least %d", found, pattern, least)
		}
	}
}

// payloads are those of the log records, from record 1, and the full record's.
func payloads(t *testing.T, r *repo.Repository) (all [][]byte) {
	t.Helper()
	head, err := r.ReplayLog(t.Context(), func(rec *repo.LogRecord) error {
		if rec.Class == repo.LogFull {
			all = append(all, rec.Payload)
		}
		return nil
	})
	must(t, err)
	for n := head.Number; n > 0; n-- {
		rec, _, err := r.LogRecord(t.Context(), n)
		must(t, err)
		all = append(all, rec.Payload)
	}
	slices.Reverse(all)
	return all
}

// goldenLog reads log and authorities both ways.
func goldenLog(t *testing.T, r *repo.Repository, folder string, known *golden) {
	t.Helper()
	if got := payloads(t, r); !slices.EqualFunc(got, known.Log, bytes.Equal) {
		t.Errorf("log: %q, want %q", got, known.Log)
	}
	o, err := open(folder, known.KeyFile)
	must(t, err)
	if o.number != repotest.WholeMaster {
		t.Errorf("by the document: master key %d", o.number)
	}
	records, full, err := o.log()
	must(t, err)
	var got [][]byte
	classes := map[byte]int{}
	for _, rec := range records {
		got = append(got, rec.payload)
		classes[rec.class]++
	}
	if !slices.EqualFunc(append(got, full.payload), known.Log, bytes.Equal) {
		t.Errorf("log by the document: %q, want %q", got, known.Log)
	}
	if classes[1] < 3 || classes[2] < 3 || classes[4] != repotest.WholeMaster-1 {
		t.Errorf("log records by class: %v", classes)
	}
	found, err := o.authorities()
	must(t, err)
	if !slices.Equal(slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(known.Authorities))) {
		t.Errorf("authorities by the document: %q, want %q", slices.Sorted(maps.Keys(found)), known.Authorities)
	}
	for serial, text := range found {
		if b, err := r.CA(t.Context(), serial); err != nil || string(b) != text {
			t.Errorf("authority %s: the product and the document differ, %v", serial, err)
		}
	}
}

// goldenWithoutIndex reads a copy whose index was rebuilt from the packs' directories.
func goldenWithoutIndex(t *testing.T, folder string, key *seal.KeyFile, want map[string]string) {
	t.Helper()
	without := filepath.Join(t.TempDir(), "repository")
	must(t, os.CopyFS(without, os.DirFS(folder)))
	must(t, os.RemoveAll(filepath.Join(without, "index")))
	if got := digests(byProduct(t, without, key)); !maps.Equal(got, want) {
		t.Errorf("without index files: %d streams, %d are known", len(got), len(want))
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
