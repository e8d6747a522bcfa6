package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// fakePlains gives, for every chunk, its position as text; one of list 2 is large.
type fakePlains struct{ damaged bool }

func (f *fakePlains) OpenPlain(context.Context, catalog.Snapshot) (api.Plain, error) { return f, nil }

func (f *fakePlains) Read(_ context.Context, spans []repo.Span, fn func(repo.ListEntry, []byte) error) error {
	for _, s := range spans {
		for i := range s.Count {
			plain := []byte(fmt.Sprintf("%d.%d\n", s.List, s.First+i))
			if s.List == 2 {
				plain = bytes.Repeat(plain, 1_500_000)
			}
			if f.damaged {
				return fmt.Errorf("chunk %d of list %d: %w", s.First+i, s.List, errs.Corrupt)
			}
			if err := fn(repo.ListEntry{Kind: seal.KindRowsText, Length: uint32(len(plain))}, plain); err != nil {
				return err
			}
		}
	}
	return nil
}

// exportable makes a snapshot of two databases with streams, and a role with a password.
func (w *world) exportable(i catalog.Instance) catalog.Snapshot {
	stream := func(list, first, count uint32, bytes int64) repo.Stream {
		return repo.Stream{Spans: []repo.Span{{List: list, First: first, Count: count}}, Bytes: bytes}
	}
	refs := &repo.References{Chunks: 30, Bytes: 300, Lists: []repo.ListRef{{Name: seal.Name{1}, Entries: 10, Bytes: 100}, {Name: seal.Name{2}, Entries: 10, Bytes: 100}, {Name: seal.Name{3}, Entries: 10, Bytes: 100}}}
	database := func(name pg.Name, oid, list uint32) repo.Database {
		return repo.Database{Name: name, OID: oid, State: repo.DatabaseComplete, Encoding: "UTF8", Archive: &repo.Archive{Tool: 150018, FormatVersion: "1.14", Stream: stream(list, 0, 2, 20)},
			Tables: []repo.Table{{OID: 100 + oid, Schema: "public", Name: "t", Rows: 3, Runs: []repo.Run{{Rows: 3, Stream: stream(list, 4, 3, 30)}}}}}
	}
	shop, hr := database("shop", 1, 0), database("hr", 2, 1)
	shop.LargeObjects = &repo.LargeObjects{Count: 1, BlockSize: 2048, Rows: 1, Data: stream(2, 0, 1, 10), Meta: stream(2, 1, 1, 10)}
	role := json.RawMessage(`{"rolname": "clerk", "rolpassword": "SCRAM-SHA-256$secret", "rolsuper": false}`)
	return w.putContent(i, time.Now().Add(time.Hour), true, refs, &repo.Logical{Globals: repo.Globals{Roles: []json.RawMessage{role}, PasswordsRead: true}, Databases: []repo.Database{shop, hr}})
}

type exportClient = grpc.BidiStreamingClient[tuskvaultv1.ExportRequest, tuskvaultv1.ExportResponse]

// beginExport opens a stream.
func beginExport(t *testing.T, conn *grpc.ClientConn, b *tuskvaultv1.ExportBegin) exportClient {
	t.Helper()
	stream, err := tuskvaultv1.NewExportServiceClient(conn).Export(t.Context())
	if err == nil {
		err = stream.Send(&tuskvaultv1.ExportRequest{Message: &tuskvaultv1.ExportRequest_Begin{Begin: b}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return stream
}

// content reads the answer to begin.
func contentOf(stream exportClient) (*repo.Content, error) {
	var packed []byte
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		packed = append(packed, m.GetContent().GetData()...)
		if m.GetContent().GetLast() {
			return repo.DecodeContent(packed)
		}
	}
}

// readSpans asks one question and gives the chunks of the answer.
func readSpans(stream exportClient, sequence uint64, spans ...*tuskvaultv1.ExportSpan) ([]string, error) {
	if err := stream.Send(&tuskvaultv1.ExportRequest{Message: &tuskvaultv1.ExportRequest_Read{Read: &tuskvaultv1.ExportRead{Sequence: sequence, Spans: spans}}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var chunks []string
	more := false
	for {
		m, err := stream.Recv()
		if err != nil {
			return chunks, err
		}
		for _, c := range m.GetChunks().GetChunks() {
			if more {
				chunks[len(chunks)-1] += string(c.GetData())
			} else {
				chunks = append(chunks, string(c.GetData()))
			}
			more = c.GetMore()
		}
		if m.GetChunks().GetLast() {
			return chunks, nil
		}
	}
}

func span(list, first, count uint32) *tuskvaultv1.ExportSpan {
	return &tuskvaultv1.ExportSpan{List: list, First: first, Count: count}
}

func TestAnExportGivesWhatWasAskedForAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.exportable(w.instanceOf("db1", "main"))
		conn := w.dial(w.operator("o", catalog.RoleOperator).cert)

		stream := beginExport(t, conn, &tuskvaultv1.ExportBegin{Snapshot: s.ID.String()[:12], Databases: []string{"shop"}, WantContent: true})
		c, err := contentOf(stream)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Logical.Databases) != 1 || c.Logical.Databases[0].Name != "shop" || len(c.Logical.Globals.Roles) != 0 {
			t.Errorf("content: %+v", c.Logical)
		}
		got, err := readSpans(stream, 1, span(0, 4, 3), span(0, 1, 1))
		if want := "0.4\n,0.5\n,0.6\n,0.1\n"; err != nil || strings.Join(got, ",") != want {
			t.Errorf("chunks %q, %v", got, err)
		}
		if got, err := readSpans(stream, 2, span(2, 0, 1)); err != nil || len(got) != 1 || len(got[0]) != 6_000_000 {
			t.Errorf("a chunk larger than a message: %d chunks, %v", len(got), err)
		}
		// The chunks of the other database, and a question that reaches into what is nobody's.
		for _, p := range []*tuskvaultv1.ExportSpan{span(1, 4, 3), span(0, 4, 4), span(0, 2, 1), span(0, 9, 1), span(7, 0, 1), span(0, 4, 1<<32-1)} {
			stream := beginExport(t, conn, &tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), Databases: []string{"shop"}})
			_, err := readSpans(stream, 1, p)
			wantKind(t, err, errs.Denied, "not of what is exported")
		}
		audited := w.audited("snapshot.export")
		if len(audited) != 7 || audited[len(audited)-1].Detail != "database shop" && audited[0].Detail != "database shop" || audited[0].Actor != "operator/o" || !strings.Contains(audited[0].Object, s.ID.String()) {
			t.Errorf("audited: %+v", audited)
		}
	})
}

func TestAnExportGivesPasswordsOnlyWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.exportable(w.instanceOf("db1", "main"))
		conn := w.dial(w.operator("o", catalog.RoleOperator).cert)
		for _, passwords := range []bool{false, true, false} {
			c, err := contentOf(beginExport(t, conn, &tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), AllDatabases: true, Globals: true, Passwords: passwords, WantContent: true}))
			if err != nil {
				t.Fatal(err)
			}
			if text := string(c.Logical.Globals.Roles[0]); strings.Contains(text, "secret") != passwords || !strings.Contains(text, "clerk") {
				t.Errorf("passwords %t: %s", passwords, text)
			}
			if len(c.Logical.Databases) != 2 {
				t.Errorf("%d databases", len(c.Logical.Databases))
			}
		}
	})
}

func TestWrongQuestionsOfAnExportAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.exportable(w.instanceOf("db1", "main"))
		conn := w.dial(w.operator("o", catalog.RoleOperator).cert)
		begin := &tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), AllDatabases: true}
		var many []*tuskvaultv1.ExportSpan
		for range 5000 {
			many = append(many, span(0, 4, 1))
		}
		for name, c := range map[string]struct {
			sequence uint64
			spans    []*tuskvaultv1.ExportSpan
			kind     *errs.Kind
		}{
			"no spans":  {1, nil, errs.Invalid},
			"many":      {1, many, errs.Invalid},
			"out of it": {2, many[:1], errs.Invalid},
		} {
			_, err := readSpans(beginExport(t, conn, begin), c.sequence, c.spans...)
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, c := range map[string]struct {
			begin *tuskvaultv1.ExportBegin
			kind  *errs.Kind
		}{
			"no snapshot":   {&tuskvaultv1.ExportBegin{Snapshot: strings.Repeat("e", 32)}, errs.NotFound},
			"no database":   {&tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), Databases: []string{"nosuch"}}, errs.NotFound},
			"no begin":      {nil, errs.Invalid},
			"two databases": {&tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), Databases: make([]string, 2000)}, errs.Invalid},
		} {
			if _, err := contentOf(beginExport(t, conn, c.begin)); !errors.Is(err, c.kind) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(w.audited("snapshot.export")); n != 3 {
			t.Errorf("%d exports were audited, 3 were let in", n)
		}
		w.plains.damaged = true
		_, err := readSpans(beginExport(t, conn, begin), 1, span(0, 4, 1))
		wantKind(t, err, errs.Corrupt, "chunk 4 of list 0")
	})
}

func TestExportsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.exportable(w.instanceOf("db1", "main"))
		conn := w.dial(w.operator("o", catalog.RoleOperator).cert)
		begin := &tuskvaultv1.ExportBegin{Snapshot: s.ID.String(), AllDatabases: true, WantContent: true}
		var open []exportClient
		for range 32 {
			stream := beginExport(t, conn, begin)
			if _, err := contentOf(stream); err != nil {
				t.Fatal(err)
			}
			open = append(open, stream)
		}
		_, err := contentOf(beginExport(t, conn, begin))
		wantKind(t, err, errs.Busy, "32 streams")
		if err := open[0].CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := open[0].Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the end of a stream: %v", err)
		}
		synctest.Wait()
		if _, err := contentOf(beginExport(t, conn, begin)); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}
