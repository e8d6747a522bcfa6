package blobtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// rounds is how often a random test is run.
func rounds(few, many int) int {
	if os.Getenv("TUSKVAULT_LONG") != "" {
		return many
	}
	return few
}

func TestAFolderStoreLosesNothingWithThePower(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range rounds(150, 5_000) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		if err := powerRound(t, rng, nil); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// A test that could not see a missing fsync would have shown nothing.
func TestADiskTellsOnAStoreThatLeavesAnFsyncOut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, left := range []string{"file", "folder", "parent", "all"} {
		noticed := 0
		for round := 0; round < 4000 && noticed == 0; round++ {
			rng := rand.New(rand.NewPCG(seed, uint64(round)))
			if powerRound(t, rng, func(f dir.Files) dir.Files { return careless{f, left} }) != nil {
				noticed++
			}
		}
		if noticed == 0 {
			t.Errorf("without the fsync of %s nothing was lost in 4000 rounds", left)
		}
	}
}

// careless leaves one kind of fsync out.
type careless struct {
	dir.Files
	left string
}

type carelessFile struct{ dir.File }

func (carelessFile) Sync() error { return nil }

func (c careless) Create(path string) (dir.File, error) {
	f, err := c.Files.Create(path)
	if err == nil && c.left == "file" {
		return carelessFile{f}, nil
	}
	return f, err
}

func (c careless) SyncFolder(path string) error {
	object := strings.HasSuffix(path, "/x") // keys are x/… below a folder of their own
	if c.left == "folder" && object || c.left == "parent" && !object {
		return nil
	}
	return c.Files.SyncFolder(path)
}

func (c careless) SyncAll(path string) error {
	if c.left == "all" {
		return nil
	}
	return c.Files.SyncAll(path)
}

// powerWorld is what is known of a store: what must be there and what must not.
type powerWorld struct {
	rng   *rand.Rand
	store *dir.Store
	// must holds what was acknowledged or seen after a start, nil for what was
	// deleted; may holds everything else that a key may stand for.
	must map[string][]byte
	may  map[string][][]byte
	next int
}

// powerRound uses a store until the power goes, or a process is killed and then
// the power goes, and tells what was lost.
func powerRound(t *testing.T, rng *rand.Rand, wrap func(dir.Files) dir.Files) error {
	root, err := os.MkdirTemp("", "disk-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	}()
	disk := blobtest.NewDisk(t, root, rng)
	w := &powerWorld{rng: rng, must: map[string][]byte{}, may: map[string][][]byte{}}
	disk.FailSyncs(rng.IntN(3))
	for range 3 {
		if err := w.open(t, disk, wrap); err != nil {
			return err
		}
		if rng.IntN(2) == 0 {
			disk.KillAfter(rng.IntN(40))
			w.use(t, disk)
			if err := w.open(t, disk, wrap); err != nil {
				return err
			}
			if rng.IntN(2) == 0 {
				disk.Lose() // while nothing has happened but looking
			}
		}
		if !disk.Ended() {
			disk.LoseAfter(rng.IntN(60))
		}
		w.use(t, disk)
		disk.Restart()
	}
	return w.open(t, disk, wrap)
}

// open starts a process, which looks at everything and relies on it from then on.
func (w *powerWorld) open(t *testing.T, disk *blobtest.Disk, wrap func(dir.Files) dir.Files) (err error) {
	files := disk.Start()
	if wrap != nil {
		files = wrap(files)
	}
	if w.store, err = dir.OpenOn(files, disk.Root()); err != nil {
		t.Fatal(err)
	}
	seen := map[string][]byte{}
	err = w.store.List(t.Context(), "", "", func(i blob.Info) error {
		seen[i.Key], err = blob.ReadAll(t.Context(), w.store, i.Key, 1<<20)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range w.must {
		if got, there := seen[key]; want == nil && there {
			return fmt.Errorf("%s is back, which was deleted", key)
		} else if want != nil && !bytes.Equal(got, want) {
			return fmt.Errorf("%s, acknowledged with %d bytes: there: %t, %d bytes", key, len(want), there, len(got))
		}
	}
	for key, got := range seen {
		ok := w.must[key] != nil
		for _, c := range w.may[key] {
			ok = ok || bytes.Equal(got, c)
		}
		if !ok {
			return fmt.Errorf("%s has %d bytes that nobody wrote so", key, len(got))
		}
		w.must[key] = got
	}
	return nil
}

// use changes the store until the process ends.
func (w *powerWorld) use(t *testing.T, disk *blobtest.Disk) {
	for !disk.Ended() {
		key := fmt.Sprintf("%c/x/%d", 'a'+w.rng.IntN(3), w.rng.IntN(4))
		if w.rng.IntN(4) == 0 {
			w.remove(t, key)
			continue
		}
		w.next++
		data := bytes.Repeat([]byte{byte(w.next)}, 1+w.rng.IntN(300))
		err := w.store.Create(t.Context(), key, blob.Bytes(data))
		switch {
		case err == nil:
			w.must[key] = data
		case errors.Is(err, errs.Exists):
			if w.must[key] == nil {
				// What an earlier Create without an answer left: it is there from now on.
				if w.must[key], err = blob.ReadAll(t.Context(), w.store, key, 1<<20); err != nil {
					t.Fatal(err)
				}
			}
		default:
			w.may[key] = append(w.may[key], data)
			if w.must[key] == nil {
				delete(w.must, key)
			}
		}
	}
}

func (w *powerWorld) remove(t *testing.T, key string) {
	if err := w.store.Delete(t.Context(), key); err == nil {
		w.must[key] = nil
		delete(w.may, key)
		return
	}
	if old := w.must[key]; old != nil {
		w.may[key] = append(w.may[key], old)
		delete(w.must, key)
	}
}
