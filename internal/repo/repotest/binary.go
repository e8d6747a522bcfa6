package repotest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// firstLargeObject is the OID of the first large object of a database, and
// largeObjectBlock the bytes of one row of pg_largeobject.
const (
	firstLargeObject = 30000
	largeObjectBlock = 2048
)

// copyRow is a row of COPY binary.
func copyRow(fields ...[]byte) []byte {
	row := binary.BigEndian.AppendUint16(nil, uint16(len(fields)))
	for _, f := range fields {
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(f))), f...)
	}
	return row
}

func number(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// wideText is a row without its newline that takes three parts and compresses to
// nearly nothing.
func (w *backup) wideText(t Table) []byte {
	text := fmt.Appendf(nil, "%d\twide %s of %s.%s ", t.Rows, t.Seed, t.Database, t.Name)
	return append(text, bytes.Repeat([]byte("x"), 2*w.domain.Params().Max+100)...)
}

// wideRow stores a row in parts (docs/FORMAT.md, "Cutting").
func (w *backup) wideRow(run *repo.RunLists, row []byte) {
	w.t.Helper()
	largest := w.domain.Params().Max
	for at := 0; at < len(row); at += largest {
		part := row[at:min(at+largest, len(row))]
		e := repo.ListEntry{Kind: seal.KindRowPart, Name: w.put(seal.KindRowPart, part), First: at == 0, Last: at+len(part) == len(row), Length: uint32(len(part))}
		if e.Last {
			e.Rows = 1
			e.Fingerprint.Add(chunk.HashRow(row))
		}
		w.add(run, e)
	}
}

func (w *backup) binaryRows(run *repo.RunLists, t Table) {
	w.t.Helper()
	rows := make([][]byte, t.Binary)
	for i := range rows {
		rows[i] = copyRow(number(i), fmt.Appendf(nil, "binary row %s of %s.%s\x00\n", t.Seed, t.Database, t.Name))
	}
	w.wholeRows(run, seal.KindRowsBinary, rows)
	if t.Wide {
		w.wideRow(run, copyRow(number(t.Binary), w.wideText(t)))
	}
	w.must(run.End(w.t.Context(), w.list))
}

// wholeRows stores rows in chunks of ChunkRows, and gives their fingerprint.
func (w *backup) wholeRows(run *repo.RunLists, kind seal.Kind, rows [][]byte) {
	w.t.Helper()
	for len(rows) > 0 {
		n := min(w.ChunkRows, len(rows))
		e := repo.ListEntry{Kind: kind, Rows: uint32(n)}
		for _, row := range rows[:n] {
			e.Fingerprint.Add(chunk.HashRow(row))
		}
		plain := bytes.Join(rows[:n], nil)
		e.Length, e.Name = uint32(len(plain)), w.put(kind, plain)
		w.add(run, e)
		rows = rows[n:]
	}
}

// largeObjects are those of a database in the making.
type largeObjects struct {
	count      int
	data, meta *repo.RunLists
}

func (w *backup) largeObjects(lists *repo.DatabaseLists, t Table) *largeObjects {
	w.t.Helper()
	l := &largeObjects{count: t.LargeObjects, data: lists.Run(repo.RunOrder{Object: 2613}), meta: lists.Run(repo.RunOrder{Object: 2995})}
	var rows [][]byte
	var meta []byte
	for i := range t.LargeObjects {
		page := bytes.Repeat(fmt.Appendf(nil, "%s %d ", t.Seed, i), 1+largeObjectBlock/4)[:largeObjectBlock]
		rows = append(rows, copyRow(number(firstLargeObject+i), number(0), page), copyRow(number(firstLargeObject+i), number(1), page[:100]))
		line, err := json.Marshal(repo.LargeObjectFacts{OID: uint32(firstLargeObject + i), Owner: "owner"})
		w.must(err)
		meta = append(append(meta, line...), '\n')
	}
	w.wholeRows(l.data, seal.KindLargeObject, rows)
	w.must(l.data.End(w.t.Context(), w.list))
	w.add(l.meta, repo.ListEntry{Kind: seal.KindLargeObject, Name: w.put(seal.KindLargeObject, meta), Length: uint32(len(meta))})
	w.must(l.meta.End(w.t.Context(), w.list))
	return l
}

func (l *largeObjects) facts() *repo.LargeObjects {
	return &repo.LargeObjects{Count: int64(l.count), Rows: l.data.Rows(), Fingerprint: l.data.Fingerprint(), BlockSize: largeObjectBlock, Data: l.data.Stream(), Meta: l.meta.Stream()}
}
