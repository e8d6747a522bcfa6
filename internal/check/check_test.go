package check_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// recorded are the snapshots as they were when first asked for.
func (w *world) recorded() []check.KnownSnapshot {
	if w.records == nil {
		for i, id := range w.snapshots {
			instance := w.backups[i/2].Instance
			b := w.object(repo.SnapshotObject(instance, id))
			w.records = append(w.records, check.KnownSnapshot{Instance: instance, ID: id, Hash: sha256.Sum256(b), Size: int64(len(b))})
		}
	}
	return w.records
}

func TestASoundRepositoryHasNoFindings(t *testing.T) {
	w := newWorld(t)
	r := w.check(w.options())
	if len(r.Findings) > 0 || r.Damaged() {
		t.Fatalf("findings: %+v", r.Findings)
	}
	if r.SnapshotsChecked != 4 || r.PacksRead != int64(len(w.list(repo.PacksPrefix))) || r.PacksRead != r.PacksChecked || r.FramesRead != r.ChunksChecked || r.FramesRead == 0 {
		t.Errorf("done: %+v", r)
	}
	for kind, n := range r.Objects {
		if prefix := kind + "/"; kind != "repository" && int(n.Objects) != len(w.list(prefix)) {
			t.Errorf("%s: %d objects, %d are there", kind, n.Objects, len(w.list(prefix)))
		}
	}
	for _, d := range r.Domains {
		if d.ReferencedBytes != d.FrameBytes || d.Packs == 0 || d.Snapshots == 0 || d.PlainBytes == 0 || d.Bytes <= d.FrameBytes {
			t.Errorf("domain: %+v", d)
		}
	}
}

func TestASnapshotThatIsPurgedWhileACheckGoesOnIsNotMissing(t *testing.T) {
	for _, leaving := range []bool{true, false} {
		w := newWorld(t)
		gone := w.snapshots[1]
		w.recorded() // before it goes
		must(t, w.store.Delete(t.Context(), repo.SnapshotObject(w.backups[0].Instance, gone)))
		if leaving {
			w.leaving = gone
		}
		if r := w.check(w.options()); r.Damaged() == leaving {
			t.Errorf("purged %t: findings %+v", leaving, r.Findings)
		}
	}
}

// An erasure destroys the keys first: what is still there then is no damage, if
// somebody knows of the erasure.
func TestWhatIsLeftOfAnErasedDomainIsNoFinding(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t)
		id := w.domains[1].ID()
		w.recorded()
		kept, err := w.repo.DestroyDomain(t.Context(), id)
		if err != nil || kept != 0 {
			t.Fatalf("kept %d, %v", kept, err)
		}
		w.leaving = w.snapshots[2]
		if known {
			w.erased, w.snapshots = id, w.snapshots[:2] // the record of an erasure is one with theirs
		}
		if r := w.check(w.options()); r.Damaged() == known {
			t.Errorf("known %t: findings %+v", known, r.Findings)
		}
	}
}

// What healing has put aside is no part of the repository and nothing to look at.
func TestWhatIsInQuarantineIsNoFinding(t *testing.T) {
	w := newWorld(t)
	must(t, w.store.Create(t.Context(), repo.QuarantinePrefix+strings.Repeat("ab", 32)+"/"+repo.CAObject("aa01"), blob.Bytes("damaged")))
	report, err := check.Run(t.Context(), w.store, check.Options{Repository: w.repo, Dir: t.TempDir()})
	must(t, err)
	if len(report.Findings) != 0 || report.Objects["quarantine"].Objects != 1 {
		t.Errorf("findings %+v, objects %+v", report.Findings, report.Objects)
	}
}

func TestWithoutKeysASoundRepositoryHasNoFindings(t *testing.T) {
	w := newWorld(t)
	r := w.check(check.Options{Dir: t.TempDir(), Sample: check.Whole})
	if len(r.Findings) > 0 || r.Keys || r.FramesRead == 0 || r.SnapshotsChecked != 4 {
		t.Fatalf("%+v", r)
	}
}

// change is one thing that can happen to an object. It gives the objects that a
// check must name: one of them is enough.
type change struct {
	name string
	// apply changes the object key (others are of the same kind) and gives what must
	// be named; nil means that it does not apply.
	apply func(w *world, key string, others []string) []string
}

// changed gives a change of an object's own bytes.
func changed(name string, fn func(b []byte) []byte) change {
	return change{name, func(w *world, key string, _ []string) []string {
		b := w.object(key)
		out := fn(bytes.Clone(b))
		if bytes.Equal(out, b) {
			return nil
		}
		w.put(key, out)
		return []string{key}
	}}
}

func changes() []change {
	flip := func(at func(n int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 0x10; return b }
	}
	return []change{
		changed("first byte flipped", flip(func(int) int { return 0 })),
		changed("byte 40 flipped", flip(func(n int) int { return min(40, n-1) })),
		changed("middle flipped", flip(func(n int) int { return n / 2 })),
		changed("byte near the end flipped", flip(func(n int) int { return max(0, n-60) })),
		changed("last byte flipped", flip(func(n int) int { return n - 1 })),
		changed("emptied", func([]byte) []byte { return []byte{} }),
		changed("cut to one byte", func(b []byte) []byte { return b[:1] }),
		changed("cut in half", func(b []byte) []byte { return b[:len(b)/2] }),
		changed("last byte cut", func(b []byte) []byte { return b[:len(b)-1] }),
		changed("byte added", func(b []byte) []byte { return append(b, 0) }),
		changed("zeroed", func(b []byte) []byte { return make([]byte, len(b)) }),
		{"removed", func(w *world, key string, _ []string) []string {
			w.put(key, nil)
			return []string{key}
		}},
		{"swapped", func(w *world, key string, others []string) []string {
			i := slices.Index(others, key)
			if i < 0 {
				return nil // repository.json is the only one of its kind
			}
			other := others[(i+1)%len(others)]
			a, b := w.object(key), w.object(other)
			if other == key || bytes.Equal(a, b) {
				return nil
			}
			w.put(key, b)
			w.put(other, a)
			return []string{key}
		}},
		{"duplicated", func(w *world, key string, _ []string) []string {
			copied := anotherKey(key)
			if copied == "" {
				return nil
			}
			w.put(copied, w.object(key))
			return []string{copied}
		}},
		{"duplicated under a key that is none", func(w *world, key string, _ []string) []string {
			w.put(key+"x", w.object(key))
			return []string{key + "x"}
		}},
	}
}

// anotherKey gives a well-formed key of the same kind that no object has.
func anotherKey(key string) string {
	kind, rest, _ := strings.Cut(key, "/")
	switch kind {
	case "epochs":
		return repo.EpochObject(3)
	case "catalog":
		if strings.HasSuffix(rest, ".full") {
			return repo.FullObject(5)
		}
		return repo.LogObject(7)
	case "ca":
		return "ca/aa03"
	case "domains":
		return "domains/" + rest[:33] + "00000000000000000009"
	case "packs", "index", "snapshots", "keys":
		last := byte('0')
		if key[len(key)-1] == last {
			last = '1'
		}
		return key[:len(key)-1] + string(last)
	}
	return ""
}

// expected says what else a change may be named by, when the object itself
// cannot be: what is missing has no bytes to be found wrong.
func expected(change, key string) (objects []string, harmless bool) {
	kind, rest, _ := strings.Cut(key, "/")
	switch {
	case change == "removed" && kind == "index":
		return []string{"index/" + rest[:33]}, true
	case change == "removed" && kind == "packs":
		return nil, false
	case change == "removed" && kind == "domains":
		return []string{"domains/" + rest[:33]}, false
	case change == "duplicated" && kind == "domains":
		return []string{"domains/" + rest[:33] + "00000000000000000002", "domains/" + rest[:33] + "00000000000000000003"}, false
	case strings.HasPrefix(change, "duplicated under") && !strings.Contains("keys domains ca epochs packs index snapshots catalog", kind):
		return nil, true
	}
	return nil, false
}

// undetectable tells what leaves a repository that is sound: an object that may
// be deleted in the ordinary course of things.
func undetectable(w *world, change, key string) bool {
	kind, _, _ := strings.Cut(key, "/")
	switch {
	case change != "removed":
		return false
	case kind == "keys", kind == "ca":
		return true // a key command does that; an authority may be kept elsewhere
	case strings.HasSuffix(key, ".full"):
		return true
	case kind == "domains":
		return strings.HasSuffix(key, "1") && len(w.list(key[:len(key)-20])) == 1 // an older generation
	case kind == "snapshots":
		return !slices.ContainsFunc(w.recorded(), func(k check.KnownSnapshot) bool { return repo.SnapshotObject(k.Instance, k.ID) == key }) // the abort marker
	}
	return false
}

func TestEveryChangeOfEveryObjectIsDetectedAndNamed(t *testing.T) {
	w := newWorldOf(t, 48) // few packs: each is changed in fifteen ways
	w.recorded()
	all := w.list("")
	before := map[string][]byte{}
	for _, key := range all {
		before[key] = w.object(key)
	}
	runs := 0
	for _, key := range all {
		prefix, _, _ := strings.Cut(key, "/")
		var others []string
		for _, k := range all {
			if strings.HasPrefix(k, prefix+"/") {
				others = append(others, k)
			}
		}
		for _, c := range changes() {
			names := c.apply(w, key, others)
			if names != nil && !undetectable(w, c.name, key) {
				runs++
				detect(t, w, c.name, key, names)
			}
			for _, k := range w.list("") {
				if _, ok := before[k]; !ok {
					w.put(k, nil)
				}
			}
			for k, b := range before {
				w.put(k, b)
			}
		}
	}
	t.Logf("%d objects, %d changes", len(all), runs)
	if r := w.check(w.options()); len(r.Findings) > 0 {
		t.Errorf("the world was not put back: %+v", r.Findings)
	}
}

// detect checks with and without keys and data, and wants the change to be named.
func detect(t *testing.T, w *world, change, key string, names []string) {
	t.Helper()
	more, harmless := expected(change, key)
	names = append(names, more...)
	r, err := check.Run(t.Context(), w.store, w.options())
	if key == repo.DescriptionObject && errors.Is(err, errs.Unsupported) {
		return // it claims to be of a later format: nothing is to be believed
	}
	if err != nil {
		t.Errorf("%s, %s: %v", key, change, err)
		return
	}
	if !slices.ContainsFunc(names, func(n string) bool { return finding(r, n) != nil }) || r.Damaged() == harmless {
		t.Errorf("%s, %s: want one of %q, damage %v; got %+v", key, change, names, !harmless, r.Findings)
	}
	// Without keys less is found: packs and index files as well as with them, of what
	// is sealed only what its size or its hash tells.
	r, err = check.Run(t.Context(), w.store, check.Options{Dir: t.TempDir(), Sample: check.Whole})
	kind, _, _ := strings.Cut(key, "/")
	switch {
	case err != nil && errs.KindOf(err) == nil:
		t.Errorf("%s, %s, without keys: %v", key, change, err)
	case err == nil && (kind == "packs" || kind == "index") && !slices.ContainsFunc(names, func(n string) bool { return finding(r, n) != nil }):
		t.Errorf("%s, %s, without keys: want one of %q, got %+v", key, change, names, r.Findings)
	}
}

func TestAPackThatIsGoneHurtsTheTablesThatNeedIt(t *testing.T) {
	w := newWorld(t)
	keys := w.list(repo.PackPrefix(w.domains[1].ID()))
	w.put(keys[0], nil)
	r := w.check(w.options())
	f := finding(r, keys[0])
	if f == nil || f.Problem != check.Missing || f.Chunks == 0 {
		t.Fatalf("%+v", r.Findings)
	}
	for _, e := range w.effects(f) {
		if !slices.Contains([]string{"2 web public.hits", "2 web schema archive"}, e) {
			t.Errorf("hurts %q", e)
		}
	}
	if len(f.Effects) == 0 || len(r.Snapshots) != 1 || r.Snapshots[0].Snapshot != w.snapshots[2] || r.Snapshots[0].Whole {
		t.Errorf("%+v, snapshots %+v", f, r.Snapshots)
	}
	if len(r.BadPacks) != 1 || !r.BadPacks[0].Whole {
		t.Errorf("bad packs %+v", r.BadPacks)
	}
}

func TestADamagedFrameHurtsEveryTableThatSharesItsChunk(t *testing.T) {
	w := newWorld(t)
	// Each pack in turn gets one flipped byte in its first frame: what the chunk is
	// decides what is hurt.
	hurt := map[string]bool{}
	for _, key := range w.list(repo.PackPrefix(w.domains[0].ID())) {
		b := w.object(key)
		broken := bytes.Clone(b)
		broken[24+60] ^= 1
		w.put(key, broken)
		r := w.check(w.options())
		f := finding(r, key)
		if len(r.Findings) != 1 || f == nil || f.Problem != check.Damaged || f.Chunks != 1 {
			t.Fatalf("%s: %+v", key, r.Findings)
		}
		if len(r.BadPacks) != 1 || r.BadPacks[0].Whole || len(r.BadPacks[0].Frames) != 1 || r.BadPacks[0].Frames[0].Offset != 24 {
			t.Errorf("bad packs %+v", r.BadPacks)
		}
		for _, e := range w.effects(f) {
			hurt[e] = true
		}
		// Orders are the same rows in both snapshots.
		if slices.Contains(w.effects(f), "0 app public.orders") != slices.Contains(w.effects(f), "1 app public.orders") {
			t.Errorf("%s: %q", key, w.effects(f))
		}
		w.put(key, b)
	}
	if !hurt["0 app public.orders"] || !hurt["1 app public.orders"] {
		t.Errorf("only %v were ever hurt", hurt)
	}
}

func TestFramesAreReadOnlyAsFarAsTheSampleGoes(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Sample = 0
	if r := w.check(o); r.FramesRead != 0 || r.PacksRead != 0 || r.Damaged() {
		t.Errorf("no sample: %+v", r)
	}
	o.Sample = 500_000
	read := map[int64]bool{}
	for seed := uint64(1); seed <= 8; seed++ {
		o.Seed = seed
		r := w.check(o)
		again := w.check(o)
		if diff := cmp.Diff([]int64{r.PacksRead, r.BytesRead}, []int64{again.PacksRead, again.BytesRead}); diff != "" {
			t.Errorf("seed %d: %s", seed, diff)
		}
		read[r.BytesRead] = true
	}
	if len(read) < 3 {
		t.Errorf("eight seeds chose %d samples", len(read))
	}
}

func TestAStoreWithoutARepositoryIsNotFound(t *testing.T) {
	if _, err := check.Run(t.Context(), mem.New(), check.Options{Dir: t.TempDir()}); !errors.Is(err, errs.NotFound) {
		t.Error(err)
	}
	w := newWorld(t)
	for _, o := range []check.Options{{}, {Dir: t.TempDir(), ReadData: true}, {Dir: t.TempDir(), Sample: -1}, {Dir: t.TempDir(), Sample: 2_000_000}, {Dir: t.TempDir(), BytesPerSecond: -1}} {
		if _, err := check.Run(t.Context(), w.store, o); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
