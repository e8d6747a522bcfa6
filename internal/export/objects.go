package export

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// maxObjectFacts bounds one line of the metadata: an object with thousands of
// privileges or a long comment.
const maxObjectFacts = 16 << 20

// eachObject gives what is known of each large object, by OID.
func eachObject(ctx context.Context, source Source, o *repo.LargeObjects, fn func(*repo.LargeObjectFacts) error) error {
	raw := openBytes(ctx, source, o.Meta, seal.KindLargeObject)
	defer raw.close()
	lines := bufio.NewScanner(raw)
	lines.Buffer(make([]byte, 64<<10), maxObjectFacts)
	last, n := int64(-1), int64(0)
	for lines.Scan() {
		var f repo.LargeObjectFacts
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return fmt.Errorf("metadata of large objects: %w: %w", err, errs.Corrupt)
		}
		if int64(f.OID) <= last {
			return fmt.Errorf("metadata of large objects: %d comes after %d: %w", f.OID, last, errs.Corrupt)
		}
		last = int64(f.OID)
		n++
		if err := fn(&f); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("metadata of large objects: %w", err)
	}
	if err := ended(ctx); err != nil {
		return err
	}
	if n != o.Count {
		return fmt.Errorf("metadata of %d large objects, the manifest says %d: %w", n, o.Count, errs.Corrupt)
	}
	return nil
}

// objectPages gives the pages of all large objects with something in them, by
// object and page, and compares them with the manifest at the end.
func objectPages(ctx context.Context, source Source, o *repo.LargeObjects, fn func(oid uint32, page int64, data []byte) error) error {
	if o.BlockSize <= 0 {
		return fmt.Errorf("large objects: pages of %d bytes: %w", o.BlockSize, errs.Corrupt)
	}
	raw := openBytes(ctx, source, o.Data, seal.KindLargeObject)
	defer raw.close()
	p := &pageReader{r: bufio.NewReaderSize(raw, 64<<10), block: o.BlockSize}
	lastOID, lastPage := uint32(0), int64(-1)
	for {
		oid, page, data, err := p.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("large objects: %w", err)
		}
		if oid < lastOID || oid == lastOID && page <= lastPage {
			return fmt.Errorf("large object %d: page %d is out of order: %w", oid, page, errs.Corrupt)
		}
		lastOID, lastPage = oid, page
		if err := fn(oid, page, data); err != nil {
			return err
		}
	}
	if err := ended(ctx); err != nil {
		return err
	}
	if err := p.sum.differs(&repo.Run{Stream: o.Data, Rows: o.Rows, Fingerprint: o.Fingerprint}); err != nil {
		return fmt.Errorf("large objects: %w", err)
	}
	return nil
}

// pageReader reads rows of (loid, pageno, data) in the binary format.
type pageReader struct {
	r     *bufio.Reader
	block int
	sum   rowSum
	row   []byte
}

// next gives the next page; io.EOF only before one. data is valid until the next call.
func (p *pageReader) next() (oid uint32, page int64, data []byte, err error) {
	const head = 22
	if cap(p.row) < head+p.block {
		p.row = make([]byte, head+p.block)
	}
	p.row = p.row[:head]
	if _, err := io.ReadFull(p.r, p.row); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("a page is cut off: %w", errs.Corrupt)
		}
		return 0, 0, nil, err
	}
	number := func(at int) int64 { return int64(int32(binary.BigEndian.Uint32(p.row[at:]))) }
	n := number(18)
	if binary.BigEndian.Uint16(p.row) != 3 || number(2) != 4 || number(10) != 4 || n < 0 || n > int64(p.block) || number(14) < 0 {
		return 0, 0, nil, fmt.Errorf("a row of pg_largeobject makes no sense: %w", errs.Corrupt)
	}
	p.row = p.row[:head+n]
	if _, err := io.ReadFull(p.r, p.row[head:]); err != nil {
		return 0, 0, nil, fmt.Errorf("a page is cut off: %w: %w", err, errs.Corrupt)
	}
	p.sum.hasher.Reset()
	_, _ = p.sum.hasher.Write(p.row) // never fails
	p.sum.sum.Add(p.sum.hasher.Sum())
	p.sum.rows++
	p.sum.bytes += int64(len(p.row))
	return uint32(number(6)), number(14), p.row[head:], nil
}

// grants gives the statements of a script that set the privileges of an object,
// each with its grantor.
func grants(object string, owner pg.Name, acl repo.ACL) []string {
	var all []string
	for _, g := range factsql.Grants(object, owner, acl) {
		if g.As != "" {
			all = append(all, "SET SESSION AUTHORIZATION "+g.As.Quote()+";", g.SQL+";", "RESET SESSION AUTHORIZATION;")
			continue
		}
		all = append(all, g.SQL+";")
	}
	return all
}

// objectACL gives the text of an entry for the privileges of a large object.
func objectACL(f *repo.LargeObjectFacts) string {
	all := grants(fmt.Sprintf("LARGE OBJECT %d", f.OID), f.Owner, f.ACL)
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}
