package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Bounds of one statement that writes large objects.
const (
	// objectBatch is the number of objects or pieces.
	objectBatch = 1000
	// objectBytes is the number of bytes, and of one piece.
	objectBytes = 1 << 20
	// objectAlters is the number of objects whose owner or privileges are set in
	// one transaction: each takes an entry of the server's lock table.
	objectAlters = 64
)

// OIDs of types in binary parameters.
const (
	oidBytea      = 17
	oidInt8       = 20
	oidOID        = 26
	oidByteaArray = 1001
	oidInt8Array  = 1016
	oidOIDArray   = 1028
)

// piece is a stretch of one large object.
type piece struct {
	oid    uint32
	offset int64
	data   []byte
	// creates: the object does not exist yet.
	creates bool
}

// objectWriter writes large objects from the rows of pg_largeobject.
type objectWriter struct {
	w      *worker
	block  int // bytes of a page of the source
	pieces []piece
	bytes  int
	last   uint32
	any    bool
	page   int64 // last page of the last piece, full pages only can be continued
	full   bool
}

// loadObjects creates all large objects, with what is in them.
func (w *worker) loadObjects(ctx context.Context, o *repo.LargeObjects) error {
	if o.BlockSize <= 0 {
		return fmt.Errorf("pages of %d bytes: %w", o.BlockSize, errs.Corrupt)
	}
	if err := w.loadObjectData(ctx, o); err != nil {
		return err
	}
	return w.loadObjectFacts(ctx, o)
}

func (w *worker) loadObjectData(ctx context.Context, o *repo.LargeObjects) error {
	raw := stream.OpenBytes(ctx, w.run.o.Source, o.Data, seal.KindLargeObject)
	defer raw.Close()
	r := bufio.NewReaderSize(raw, 64<<10)
	out := &objectWriter{w: w, block: o.BlockSize}
	var sum stream.RowSum
	for {
		oid, page, data, hash, err := objectRow(r, o.BlockSize)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		sum.Rows++
		sum.Sum.Add(hash)
		if err := out.add(ctx, oid, page, data); err != nil {
			return fmt.Errorf("large object %d: %w", oid, err)
		}
		w.run.progress.loaded(objectsRelation, 0, int64(len(data)))
	}
	if want := (stream.RowSum{Rows: o.Rows, Sum: o.Fingerprint}); sum != want {
		return fmt.Errorf("large objects differ from the snapshot's: expected pages: %s, found %s: %w", want, sum, errs.Corrupt)
	}
	return out.flush(ctx)
}

// objectRow reads one binary tuple of (loid, pageno, data). It gives io.EOF only
// between tuples. hash is over the whole tuple.
func objectRow(r *bufio.Reader, block int) (oid uint32, page int64, data []byte, hash chunk.RowHash, err error) {
	var head [22]byte
	var h chunk.RowHasher
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("a page of a large object is cut off: %w", errs.Corrupt)
		}
		return 0, 0, nil, hash, err
	}
	number := func(at int) int64 { return int64(int32(binary.BigEndian.Uint32(head[at:]))) }
	n := number(18)
	if binary.BigEndian.Uint16(head[:]) != 3 || number(2) != 4 || number(10) != 4 || n < 0 || n > int64(block) || number(14) < 0 {
		return 0, 0, nil, hash, fmt.Errorf("a row of pg_largeobject makes no sense: %w", errs.Corrupt)
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, 0, nil, hash, fmt.Errorf("a page of a large object is cut off: %w: %w", err, errs.Corrupt)
	}
	_, _ = h.Write(head[:]) // never fails
	_, _ = h.Write(data)
	return uint32(number(6)), number(14), data, h.Sum(), nil
}

// add takes the next page, in order of objects and pages. Pages that follow each
// other are joined; holes stay holes.
func (o *objectWriter) add(ctx context.Context, oid uint32, page int64, data []byte) error {
	first := !o.any || o.last != oid
	if o.any && (oid < o.last || oid == o.last && page <= o.page) {
		return fmt.Errorf("page %d is out of order: %w", page, errs.Corrupt)
	}
	last := len(o.pieces) - 1
	switch {
	case len(data) == 0:
		// An empty page is what truncating to a multiple of the page leaves.
		if first {
			o.pieces = append(o.pieces, piece{oid: oid, creates: true})
		}
		if err := o.flush(ctx); err != nil {
			return err
		}
		if err := o.truncate(ctx, oid, page*int64(o.block)); err != nil {
			return err
		}
	case !first && o.full && page == o.page+1 && last >= 0 && len(o.pieces[last].data)+len(data) <= objectBytes:
		o.pieces[last].data = append(o.pieces[last].data, data...)
	case first && page > 0:
		o.pieces = append(o.pieces, piece{oid: oid, creates: true}, piece{oid: oid, offset: page * int64(o.block), data: data})
	default:
		o.pieces = append(o.pieces, piece{oid: oid, offset: page * int64(o.block), data: data, creates: first})
	}
	o.any, o.last, o.page, o.full = true, oid, page, len(data) == o.block
	o.bytes += len(data)
	if o.bytes >= objectBytes || len(o.pieces) >= objectBatch {
		return o.flush(ctx)
	}
	return nil
}

// flush writes what was collected: first what makes objects, then the rest.
func (o *objectWriter) flush(ctx context.Context) error {
	var oids, made, offsets, at, data, rest [][]byte
	for _, p := range o.pieces {
		oid := binary.BigEndian.AppendUint32(nil, p.oid)
		if p.creates {
			oids, made = append(oids, oid), append(made, p.data)
			continue
		}
		at, offsets, rest = append(at, oid), append(offsets, binary.BigEndian.AppendUint64(nil, uint64(p.offset))), append(rest, p.data)
	}
	data = made
	o.pieces, o.bytes = o.pieces[:0], 0
	if len(oids) > 0 {
		err := o.w.conn.RunBinary(ctx, "SELECT pg_catalog.lo_from_bytea(o, d) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS t(o, d)",
			[]uint32{oidOIDArray, oidByteaArray}, [][]byte{binaryArray(oidOID, oids), binaryArray(oidBytea, data)})
		if err != nil {
			return err
		}
	}
	if len(at) == 0 {
		return nil
	}
	return o.w.conn.RunBinary(ctx, "SELECT pg_catalog.lo_put(o, p, d) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS t(o, p, d)",
		[]uint32{oidOIDArray, oidInt8Array, oidByteaArray},
		[][]byte{binaryArray(oidOID, at), binaryArray(oidInt8, offsets), binaryArray(oidBytea, rest)})
}

func (o *objectWriter) truncate(ctx context.Context, oid uint32, size int64) error {
	const readWrite = 0x20000 | 0x40000 // INV_WRITE, INV_READ
	return o.w.conn.Exec(ctx, fmt.Sprintf("BEGIN; SELECT pg_catalog.lo_truncate64(pg_catalog.lo_open(%d, %d), %d); COMMIT", oid, readWrite, size))
}

// binaryArray encodes an array of one dimension without nulls.
func binaryArray(element uint32, values [][]byte) []byte {
	n := 20
	for _, v := range values {
		n += 4 + len(v)
	}
	b := make([]byte, 0, n)
	for _, x := range []uint32{1, 0, element, uint32(len(values)), 1} {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

// loadObjectFacts creates the empty ones and sets owners, privileges and comments.
func (w *worker) loadObjectFacts(ctx context.Context, o *repo.LargeObjects) error {
	var oids [][]byte
	var sql []string
	create := func() error {
		if len(oids) == 0 {
			return nil
		}
		err := w.conn.RunBinary(ctx, `SELECT pg_catalog.lo_create(o) FROM pg_catalog.unnest($1) AS t(o)
			WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = o)`, []uint32{oidOIDArray}, [][]byte{binaryArray(oidOID, oids)})
		oids = oids[:0]
		return err
	}
	alters := 0
	alter := func() error {
		if len(sql) == 0 {
			return nil
		}
		err := w.conn.Exec(ctx, "BEGIN; "+strings.Join(sql, " ")+" COMMIT")
		sql, alters = sql[:0], 0
		return err
	}
	err := stream.EachObject(ctx, w.run.o.Source, o, func(f *repo.LargeObjectFacts) error {
		oids = append(oids, binary.BigEndian.AppendUint32(nil, f.OID))
		if own := w.run.objectStatements(f); len(own) > 0 {
			sql = append(sql, own...)
			alters++
		}
		if len(oids) < objectBatch && alters < objectAlters {
			return nil
		}
		if err := create(); err != nil {
			return err
		}
		return alter()
	})
	if err != nil {
		return err
	}
	if err := create(); err != nil {
		return err
	}
	return alter()
}

// objectStatements set the owner, privileges and comment of one large object.
func (r *restore) objectStatements(f *repo.LargeObjectFacts) []string {
	object := fmt.Sprintf("LARGE OBJECT %d", f.OID)
	var sql []string
	if !r.plan.Request.NoOwner {
		owner := r.plan.Names.Role(f.Owner)
		if owner != r.plan.Target.Role {
			sql = append(sql, "ALTER "+object+" OWNER TO "+owner.Quote()+";")
		}
		sql = append(sql, grants(object, owner, r.plan.Names.ACL(f.ACL))...)
	}
	if f.Comment != nil {
		sql = append(sql, "COMMENT ON "+object+" IS "+sqltext.Literal(pg.Name(*f.Comment))+";")
	}
	return sql
}

// verifyObjects counts the large objects. What is in them was compared on the way
// in; it is read back too where the tables are.
func (w *worker) verifyObjects(ctx context.Context, o *repo.LargeObjects) error {
	var n int64
	if err := w.conn.One(ctx, &n, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"); err != nil {
		return err
	}
	if n != o.Count {
		return fmt.Errorf("large objects differ from the snapshot's: expected %d, found %d: %w", o.Count, n, errs.Corrupt)
	}
	if !w.run.readBack || w.run.plan.Target.BlockSize != 4*o.BlockSize {
		return nil // pages are cut otherwise; the plan says that they are only counted
	}
	got, err := w.fingerprint(ctx, "COPY (SELECT loid, pageno, data FROM pg_catalog.pg_largeobject) TO STDOUT (FORMAT binary)", true)
	if err != nil {
		return fmt.Errorf("read large objects back: %w", err)
	}
	if want := (stream.RowSum{Rows: o.Rows, Sum: o.Fingerprint}); got != want {
		return fmt.Errorf("large objects differ from the snapshot's: expected pages: %s, found %s: %w", want, got, errs.Corrupt)
	}
	return nil
}
