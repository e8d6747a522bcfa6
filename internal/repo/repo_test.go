package repo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wantKind(t *testing.T, what string, err error, kind *errs.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

// wantWords wants an error that names what is wrong.
func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want it to say %q", err, w)
		}
	}
}

// impatient is a context that ends as soon as somebody waits for it: the first
// pause between two tries finds it canceled.
type impatient struct {
	context.Context
	cancel context.CancelFunc
}

func (i impatient) Done() <-chan struct{} {
	i.cancel()
	return i.Context.Done()
}

func withoutPatience(ctx context.Context, cancel context.CancelFunc) context.Context {
	return impatient{ctx, cancel}
}

// checkManifest wants a snapshot to be the one of repotest.
func checkManifest(t *testing.T, r *repo.Repository, s *repo.Snapshot) {
	t.Helper()
	d, err := r.Domain(t.Context(), s.Header.Domain)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := s.OpenReferences(d.Keys().Refs())
	if err != nil {
		t.Fatal(err)
	}
	content, err := s.OpenContent(d.Keys().Seal(s.Header.SealEpoch), refs)
	if err != nil {
		t.Fatal(err)
	}
	wantRefs, wantContent := repotest.Manifest()
	if diff := cmp.Diff(wantRefs, refs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantContent, content, cmp.AllowUnexported(repo.Fingerprint{})); diff != "" {
		t.Error(diff)
	}
}

func TestInitRefusesAStoreThatHoldsAnything(t *testing.T) {
	for _, key := range []string{"something", "keys/0123", "zz/last"} {
		store := mem.New()
		if err := store.Create(t.Context(), key, blob.Bytes("x")); err != nil {
			t.Fatal(err)
		}
		_, err := repo.Init(t.Context(), store, repo.Options{Unlocker: seal.NewKeyFile(), Name: "n"})
		wantKind(t, "init beside "+key, err, errs.Exists)
		wantWords(t, err, key)
		count := 0
		if err := store.List(t.Context(), "", "", func(blob.Info) error { count++; return nil }); err != nil || count != 1 {
			t.Errorf("init wrote to a store that it refused: %d objects, %v", count, err)
		}
	}
	store := mem.New()
	repotest.New(t, store)
	_, err := repo.Init(t.Context(), store, repo.Options{Unlocker: seal.NewKeyFile(), Name: "test"})
	wantKind(t, "init of a repository", err, errs.Exists)
}

func TestInitRefusesWhatMakesNoSense(t *testing.T) {
	for what, o := range map[string]repo.Options{
		"no unlocker": {Name: "n"},
		"no name":     {Unlocker: seal.NewKeyFile()},
		"long name":   {Unlocker: seal.NewKeyFile(), Name: strings.Repeat("n", 65)},
		"odd name":    {Unlocker: seal.NewKeyFile(), Name: "a\nb"},
		"bad cut":     {Unlocker: seal.NewKeyFile(), Name: "n", ChunkParams: chunk.Params{Target: 1, Min: 2, Max: 3}},
	} {
		store := mem.New()
		_, err := repo.Init(t.Context(), store, o)
		wantKind(t, what, err, errs.Invalid)
		if _, err := store.Stat(t.Context(), repo.DescriptionObject); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s: something was written: %v", what, err)
		}
	}
}

func TestAnUnfinishedInitIsFinishedOnlyAsItBegan(t *testing.T) {
	store := mem.New()
	faulty := blobtest.NewFaulty(store)
	faulty.StopAfter(1)
	_, err := repo.Init(t.Context(), faulty, repo.Options{Unlocker: seal.NewKeyFile(), Name: "first"})
	wantKind(t, "init that stops", err, errs.Unavailable)
	_, err = repo.Open(t.Context(), store, seal.NewKeyFile())
	wantKind(t, "open of an unfinished init", err, errs.Conflict)
	_, err = repo.Init(t.Context(), store, repo.Options{Unlocker: seal.NewKeyFile(), Name: "second"})
	wantKind(t, "init under another name", err, errs.Conflict)
	unlocker := seal.NewKeyFile()
	made, err := repo.Init(t.Context(), store, repo.Options{Unlocker: unlocker, Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := repo.Open(t.Context(), store, unlocker)
	if err != nil || opened.ID() != made.ID() {
		t.Errorf("open: %v", err)
	}
}

func TestOfTwoInitsThatResumeOneMasterKeyWins(t *testing.T) {
	// The second one runs whole while the first has looked and not yet put its key.
	store := mem.New()
	faulty := blobtest.NewFaulty(store)
	faulty.StopAfter(1)
	_, _ = repo.Init(t.Context(), faulty, repo.Options{Unlocker: seal.NewKeyFile(), Name: "n"})
	winner := seal.NewKeyFile()
	between := &hooked{Store: store, before: func(key string) {
		if strings.HasPrefix(key, repo.KeysPrefix) {
			if _, err := repo.Init(t.Context(), store, repo.Options{Unlocker: winner, Name: "n"}); err != nil {
				t.Errorf("second init: %v", err)
			}
		}
	}}
	_, err := repo.Init(t.Context(), between, repo.Options{Unlocker: seal.NewKeyFile(), Name: "n"})
	wantKind(t, "first init", err, errs.Exists)
	if _, err := repo.Open(t.Context(), store, winner); err != nil {
		t.Error(err)
	}
}

// hooked calls before ahead of each Create.
type hooked struct {
	blob.Store
	before func(key string)
}

func (h *hooked) Create(ctx context.Context, key string, body blob.Body) error {
	h.before(key)
	return h.Store.Create(ctx, key, body)
}

func TestAnUnknownNewerFormatIsRefusedAndNothingIsWritten(t *testing.T) {
	newer := `{"format": 99, "shape": "unknown"}`
	for what, objects := range map[string]map[string]string{
		"repository.json of a later format": {repo.DescriptionObject: newer},
		"a later description beside it":     {"repository.7.json": newer},
	} {
		store := mem.New()
		var unlocker *seal.KeyFile
		if _, own := objects[repo.DescriptionObject]; own {
			unlocker = seal.NewKeyFile()
		} else {
			_, _, unlocker = repotest.New(t, store)
		}
		for key, text := range objects {
			if err := store.Create(t.Context(), key, blob.Bytes(text)); err != nil {
				t.Fatal(err)
			}
		}
		faulty := blobtest.NewFaulty(store)
		_, err := repo.Open(t.Context(), faulty, unlocker)
		wantKind(t, "open: "+what, err, errs.Unsupported)
		_, err = repo.Init(t.Context(), faulty, repo.Options{Unlocker: unlocker, Name: "n"})
		if err == nil || faulty.Steps() != 0 {
			t.Errorf("init: %s: %v, %d steps", what, err, faulty.Steps())
		}
	}
}

func TestTheFormatGateFailsClosed(t *testing.T) {
	// A repository that cannot be read for certain is never taken for an empty store
	// or for one of this format.
	for _, fault := range []blobtest.Fault{
		{Op: blob.OpStat, Prefix: "repository", Nth: 1, Effect: blobtest.Fail},
		{Op: blob.OpOpen, Prefix: "repository", Nth: 1, Effect: blobtest.Fail, Err: errs.Denied},
		{Op: blob.OpOpen, Prefix: "repository", Nth: 1, Effect: blobtest.Torn},
		{Op: blob.OpList, Prefix: "repository", Nth: 1, Effect: blobtest.Fail},
		{Op: blob.OpList, Prefix: "keys", Nth: 1, Effect: blobtest.Fail},
	} {
		store := mem.New()
		_, _, unlocker := repotest.New(t, store)
		faulty := blobtest.NewFaulty(store)
		faulty.Plan(fault)
		r, err := repo.Open(t.Context(), faulty, unlocker)
		if r != nil || err == nil || errors.Is(err, errs.NotFound) {
			t.Errorf("%+v: opened %v, %v", fault, r != nil, err)
		}
		faulty.Verify(t)
	}
}

func TestADamagedDescriptionIsCorrupt(t *testing.T) {
	good := `"id": "00112233445566778899aabbccddeeff", "name": "n", "created": "2026-01-01T00:00:00Z", "cut": {"target": 196608, "min": 65536, "max": 1048576}`
	for what, text := range map[string]string{
		"not json": "x", "empty": "", "no format": `{` + good + `}`, "unknown field": `{"format": 0, "secret": 1, ` + good + `}`,
		"two values": `{"format": 0, ` + good + `} {}`, "bad id": `{"format": 0, ` + strings.Replace(good, "ff", "", 1) + `}`,
		"bad cut": `{"format": 0, ` + strings.Replace(good, "65536", "0", 1) + `}`, "negative format": `{"format": -1, ` + good + `}`,
		"huge": `{"format": 0, ` + good + strings.Repeat(" ", 64<<10) + `}`,
	} {
		store := mem.New()
		if err := store.Create(t.Context(), repo.DescriptionObject, blob.Bytes(text)); err != nil {
			t.Fatal(err)
		}
		_, err := repo.Describe(t.Context(), store)
		wantKind(t, what, err, errs.Corrupt)
	}
	store := mem.New()
	if err := store.Create(t.Context(), repo.DescriptionObject, blob.Bytes(`{"format": 0, `+good+`}`)); err != nil {
		t.Fatal(err)
	}
	if d, err := repo.Describe(t.Context(), store); err != nil || d.Name != "n" {
		t.Errorf("the good one: %+v, %v", d, err)
	}
}

func TestKeysAreAddedAndRemoved(t *testing.T) {
	store := mem.New()
	r, _, first := repotest.New(t, store)
	second := seal.NewKeyFile()
	id := repo.NewID()
	if err := r.AddKey(t.Context(), id, second); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "add the same key", r.AddKey(t.Context(), id, second), errs.Exists)
	if kind, err := r.KeyKind(t.Context(), id); err != nil || kind != seal.WrapKeyFile {
		t.Errorf("kind %s, %v", kind, err)
	}
	for _, u := range []seal.Unlocker{first, second} {
		if _, err := repo.Open(t.Context(), store, seal.NewKeyFile(), u); err != nil {
			t.Error(err)
		}
	}
	wantKind(t, "remove the key it was opened with", r.RemoveKey(t.Context(), repo.ID(r.ID())), errs.Conflict)
	r, err := repo.Open(t.Context(), store, second)
	if err != nil || r.OpenedBy() != id {
		t.Fatal(err)
	}
	if err := r.RemoveKey(t.Context(), repo.ID(r.ID())); err != nil {
		t.Fatal(err)
	}
	_, err = repo.Open(t.Context(), store, first)
	wantKind(t, "open with a removed key", err, errs.Denied)
	if _, err := repo.Open(t.Context(), store, second); err != nil {
		t.Error(err)
	}
	wantKind(t, "remove the last key", r.RemoveKey(t.Context(), id), errs.Conflict)
	wantKind(t, "remove no key", r.RemoveKey(t.Context(), repo.NewID()), errs.NotFound)
	_, err = repo.Open(t.Context(), store)
	wantKind(t, "open with no unlocker", err, errs.Denied)
}

func TestAKeyOfAnotherRepositoryDoesNotOpenThisOne(t *testing.T) {
	// Copied under the first one's key id: the wrap is bound to repository.json.
	a, b := mem.New(), mem.New()
	ra, _, ua := repotest.New(t, a)
	rb, _, _ := repotest.New(t, b)
	wrapped, err := blob.ReadAll(t.Context(), a, repo.KeyObject(ra.ID()), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), repo.KeyObject(rb.ID())); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), repo.KeyObject(rb.ID()), blob.Bytes(wrapped)); err != nil {
		t.Fatal(err)
	}
	if r, err := repo.Open(t.Context(), b, ua); err == nil {
		t.Errorf("opened %s", r.ID())
	}
}

func TestAStoreThatLosesAPutIsFoundOutAtOnce(t *testing.T) {
	for _, prefix := range []string{repo.KeysPrefix, repo.DomainsPrefix, repo.CAPrefix, repo.CatalogPrefix} {
		faulty := blobtest.NewFaulty(mem.New())
		faulty.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: blobtest.Vanish})
		err := func() error {
			r, err := repo.Init(t.Context(), faulty, repo.Options{Unlocker: seal.NewKeyFile(), Name: "n"})
			if err != nil {
				return err
			}
			if _, err := r.CreateDomain(t.Context()); err != nil {
				return err
			}
			if err := r.PutCA(t.Context(), "01", []byte("bundle")); err != nil {
				return err
			}
			epoch, err := r.ClaimEpoch(t.Context())
			if err != nil {
				return err
			}
			log, err := repo.OpenLog(t.Context(), r, epoch)
			if err != nil {
				return err
			}
			_, err = log.Append(t.Context(), repo.LogSynchronous, []byte("x"))
			return err
		}()
		if err == nil {
			t.Errorf("%s: nobody noticed", prefix)
		}
		faulty.Verify(t)
	}
}
