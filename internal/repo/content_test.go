package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

func deflate(t testing.TB, text []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(text, nil)
}

func TestAContentReadsBackWithNamesThatAreNotUTF8(t *testing.T) {
	refs, want := repotest.Manifest()
	want.Logical.Databases[0].Tables[0].Name = pg.Name("caf\xe9\x01")
	want.Problems = []repo.Problem{{Severity: "warning", Database: "app", Reason: "r", Hint: "h"}}
	packed, err := repo.EncodeContent(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := repo.DecodeContent(packed)
	if diff := cmp.Diff(want, got, compareFingerprints); diff != "" || err != nil {
		t.Fatalf("%v %s", err, diff)
	}
	if err := got.Validate(refs); err != nil {
		t.Error(err)
	}
}

func TestAHostileContentIsRefusedByName(t *testing.T) {
	table := func(c *repo.Content) *repo.Table { return &c.Logical.Databases[0].Tables[0] }
	span := func(c *repo.Content) *repo.Span { return &table(c).Runs[0].Stream.Spans[0] }
	for what, c := range map[string]struct {
		change func(*repo.Content, *repo.References)
		words  []string
	}{
		"a list that is not there":        {func(c *repo.Content, _ *repo.References) { span(c).List = 1 }, []string{`"app"`, "public.t", "run 0", "list 1 of 1"}},
		"a list far away":                 {func(c *repo.Content, _ *repo.References) { span(c).List = math.MaxUint32 }, []string{"public.t"}},
		"entries beyond the list":         {func(c *repo.Content, _ *repo.References) { span(c).Count = 3 }, []string{"public.t", "of a list of 3"}},
		"entries that overflow":           {func(c *repo.Content, _ *repo.References) { span(c).First, span(c).Count = math.MaxUint32, 2 }, []string{"public.t"}},
		"no entries":                      {func(c *repo.Content, _ *repo.References) { span(c).Count = 0 }, []string{"public.t"}},
		"negative rows":                   {func(c *repo.Content, _ *repo.References) { table(c).Rows, table(c).Runs[0].Rows = -2, -2 }, []string{"public.t"}},
		"rows that do not add up":         {func(c *repo.Content, _ *repo.References) { table(c).Rows = 3 }, []string{"public.t", "3 rows"}},
		"rows that overflow":              {overflowing, []string{"public.t"}},
		"a fingerprint that is no sum":    {func(c *repo.Content, _ *repo.References) { table(c).Fingerprint = repo.Fingerprint{} }, []string{"public.t"}},
		"more rows than bytes":            {func(c *repo.Content, _ *repo.References) { table(c).Rows, table(c).Runs[0].Rows = 41, 41 }, []string{"public.t"}},
		"negative bytes":                  {func(c *repo.Content, _ *repo.References) { table(c).Runs[0].Stream.Bytes = -40 }, []string{"public.t"}},
		"more bytes than the lists":       {func(c *repo.Content, _ *repo.References) { table(c).Runs[0].Stream.Bytes = 61 }, []string{"public.t", "61 bytes"}},
		"a negative size":                 {func(c *repo.Content, _ *repo.References) { c.Logical.Databases[0].Size = &repo.SizeFacts{Bytes: -1} }, []string{`"app"`, "size"}},
		"negative pages":                  {func(c *repo.Content, _ *repo.References) { table(c).Pages = -1 }, []string{"public.t"}},
		"rows of a table that is omitted": {func(c *repo.Content, _ *repo.References) { table(c).Omitted = "no privilege" }, []string{"public.t", "no privilege"}},
		"a table without a name":          {func(c *repo.Content, _ *repo.References) { table(c).Name = "" }, []string{"public."}},
		"one oid twice":                   {func(c *repo.Content, _ *repo.References) { doubled(c) }, []string{"16385"}},
		"chunks used twice":               {func(c *repo.Content, _ *repo.References) { table(c).Runs = append(table(c).Runs, table(c).Runs[0]) }, []string{"run 1", "more chunks"}},
		"a database named twice": {func(c *repo.Content, _ *repo.References) {
			c.Logical.Databases = append(c.Logical.Databases, c.Logical.Databases[0])
		}, []string{`"app"`, "twice"}},
		"a complete database without schema": {func(c *repo.Content, _ *repo.References) { c.Logical.Databases[0].Archive = nil }, []string{`"app"`, "archive"}},
		"an unknown state":                   {func(c *repo.Content, _ *repo.References) { c.Logical.Databases[0].State = "fine" }, []string{`"fine"`}},
		"an unknown kind":                    {func(c *repo.Content, _ *repo.References) { c.Kind = "physical" }, []string{"physical"}},
		"no section":                         {func(c *repo.Content, _ *repo.References) { c.Logical = nil }, []string{"section"}},
		"an end before the start":            {func(c *repo.Content, _ *repo.References) { c.Finished = c.Started.Add(-time.Second) }, []string{"before"}},
		"another version":                    {func(c *repo.Content, _ *repo.References) { c.Version = 2 }, []string{"version 2"}},
		"large objects out of nothing": {func(c *repo.Content, _ *repo.References) {
			c.Logical.Databases[0].LargeObjects = &repo.LargeObjects{Count: 1, BlockSize: 2048}
		}, []string{"large objects"}},
		"negative large objects": {func(c *repo.Content, _ *repo.References) {
			c.Logical.Databases[0].LargeObjects = &repo.LargeObjects{Count: -1, BlockSize: 2048}
		}, []string{"large objects"}},
		"a schema archive elsewhere": {func(c *repo.Content, _ *repo.References) {
			c.Logical.Databases[0].Archive.Stream.Spans[0].First = 3
		}, []string{`"app"`, "schema archive"}},
		"a failed database with a bad stream": {func(c *repo.Content, _ *repo.References) {
			c.Logical.Databases[0].State = repo.DatabaseFailed
			span(c).List = 9
		}, []string{"list 9"}},
	} {
		t.Run(what, func(t *testing.T) {
			refs, content := repotest.Manifest()
			if err := content.Validate(refs); err != nil {
				t.Fatal(err)
			}
			c.change(content, refs)
			err := content.Validate(refs)
			wantKind(t, what, err, errs.Invalid)
			wantWords(t, err, c.words...)
		})
	}
}

func overflowing(c *repo.Content, refs *repo.References) {
	refs.Lists[0].Bytes = math.MaxInt64
	t := &c.Logical.Databases[0].Tables[0]
	run := repo.Run{Rows: math.MaxInt64, Stream: repo.Stream{Bytes: math.MaxInt64, Spans: []repo.Span{{Count: 1}}}}
	t.Runs = []repo.Run{run, run}
	t.Rows = -2
}

func doubled(c *repo.Content) {
	t := c.Logical.Databases[0].Tables[0]
	t.Runs, t.Rows, t.Fingerprint = nil, 0, repo.Fingerprint{}
	c.Logical.Databases[0].Tables = append(c.Logical.Databases[0].Tables, t)
}

func TestABinaryRunIsOutsideATablesTotals(t *testing.T) {
	refs, content := repotest.Manifest()
	refs.Lists[0].Entries++
	refs.Lists[0].Bytes += 30
	refs.Chunks, refs.Bytes = refs.Chunks+1, refs.Bytes+30
	table := &content.Logical.Databases[0].Tables[0]
	table.Runs = append(table.Runs, repo.Run{Binary: true, Wide: "x", Rows: 1, Stream: repo.Stream{Bytes: 30, Spans: []repo.Span{{First: 3, Count: 1}}}})
	if err := content.Validate(refs); err != nil {
		t.Error(err)
	}
}

func TestHostileContentBytesAreRefused(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for what, text := range map[string]string{
		"nothing":          "",
		"not an object":    "[]",
		"two values":       `{"version":1}{"version":1}`,
		"an unknown field": `{"version":1,"extra":1}`,
		"deep nesting":     `{"version":1,"problems":` + nested(100) + `}`,
		"very deep":        nested(1 << 20),
		"version 0":        `{}`,
		"a wrong type":     `{"version":1,"logical":7}`,
		"many structs":     `{"version":1,"logical":{"databases":[` + strings.Repeat("{},", 5<<20) + `{}]}}`,
	} {
		_, err := repo.DecodeContent(deflate(t, []byte(text)))
		wantKind(t, what, err, errs.Corrupt)
	}
	_, err := repo.DecodeContent(deflate(t, []byte(`{"version":2,"novelty":true}`)))
	wantKind(t, "a newer version", err, errs.Unsupported)
	_, err = repo.DecodeContent([]byte("not zstd at all"))
	wantKind(t, "not compressed", err, errs.Corrupt)
	whole := deflate(t, []byte(`{"version":1}`))
	_, err = repo.DecodeContent(whole[:len(whole)-3])
	wantKind(t, "cut off", err, errs.Corrupt)
}

func TestWhatJSONWillCostIsKnownBeforeItIsDecoded(t *testing.T) {
	const budget = 64 << 10
	for what, text := range map[string]string{
		"structs":     `[` + strings.Repeat(`{},`, 300) + `{}]`,
		"values":      `[` + strings.Repeat(`"",`, 5000) + `""]`,
		"map entries": `{` + strings.Repeat(`"a":"",`, 1000) + `"b":""}`,
		"depth":       strings.Repeat("[", 33),
	} {
		if err := repo.CheckJSON([]byte(text), budget); err == nil {
			t.Errorf("%s: not refused", what)
		}
	}
	for what, text := range map[string]string{
		"braces in strings": `"` + strings.Repeat(`{[,:\"`, 10000) + `"`,
		"many spans":        strings.Repeat("[", 10) + strings.Repeat(`{"l":1,"f":2,"n":3},`, 1000),
		"closing alone":     strings.Repeat("]}", 1000),
		"a usual object":    `{"a":1,"b":[1,2,3],"c":{"d":"e"}}`,
	} {
		if err := repo.CheckJSON([]byte(text), budget); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestADecompressionBombIsRefused(t *testing.T) {
	const limit = 1 << 20
	bomb := deflate(t, bytes.Repeat([]byte(" "), limit+1))
	if _, err := repo.Inflate(bomb, limit); err == nil {
		t.Error("not refused")
	}
	if b, err := repo.Inflate(bomb, limit+1); err != nil || len(b) != limit+1 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAContentThatCouldNotBeReadIsNotWritten(t *testing.T) {
	_, c := repotest.Manifest()
	c.Logical.Databases[0].Statements = []string{strings.Repeat("x", repo.MaxContentBytes)}
	_, err := repo.EncodeContent(c)
	wantKind(t, "encode", err, errs.Exhausted)
	c.Logical.Databases[0].Statements = nil
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	c.Logical.Databases[0].Properties = json.RawMessage(deep)
	_, err = repo.EncodeContent(c)
	wantKind(t, "encode", err, errs.Exhausted)
}

func FuzzDecodeContent(f *testing.F) {
	refs, c := repotest.Manifest()
	text, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version":1,"kind":"logical","logical":{"databases":[{"name":{"base64":"/w=="}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := repo.DecodeContent(deflate(t, text))
		if err != nil {
			if !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
				t.Error(err)
			}
			return
		}
		if err := c.Validate(refs); err != nil {
			wantKind(t, "validate", err, errs.Invalid)
			return
		}
		packed, err := repo.EncodeContent(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.DecodeContent(packed); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	store := mem.New()
	_, d, _ := repotest.New(f, store)
	p := repotest.Prepare(f, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 2})
	r, err := p.Open()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:repo.SnapshotHeaderSize])
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := repo.DecodeSnapshot(raw)
		if err != nil {
			if !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
				t.Error(err)
			}
			return
		}
		if s.Header.Size() != int64(len(raw)) {
			t.Errorf("%d bytes, header says %d", len(raw), s.Header.Size())
		}
	})
}
