package export

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
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

// grants gives the statements that set the privileges of a new object, say
// "LARGE OBJECT 7", as acl has them, each with its grantor. A nil acl is what a
// new object has.
func grants(object string, owner pg.Name, acl repo.ACL) []string {
	if acl == nil {
		return nil
	}
	all := []string{"REVOKE ALL ON " + object + " FROM PUBLIC;", "REVOKE ALL ON " + object + " FROM " + owner.Quote() + ";"}
	// Who hands on a privilege must have it first.
	items := slices.Clone(acl)
	slices.SortStableFunc(items, func(a, b repo.ACLItem) int { return rank(a, owner) - rank(b, owner) })
	for _, i := range items {
		to := "PUBLIC"
		if i.Grantee != "" {
			to = i.Grantee.Quote()
		}
		q := "GRANT " + privilege(i.Privilege) + " ON " + object + " TO " + to
		if i.Grantable && i.Grantee != owner {
			q += " WITH GRANT OPTION"
		}
		if q += ";"; i.Grantor != owner && i.Grantor != "" {
			all = append(all, "SET SESSION AUTHORIZATION "+i.Grantor.Quote()+";", q, "RESET SESSION AUTHORIZATION;")
			continue
		}
		all = append(all, q)
	}
	return all
}

func rank(i repo.ACLItem, owner pg.Name) int {
	switch {
	case i.Grantee == owner:
		return 0
	case i.Grantor == owner && i.Grantable:
		return 1
	case i.Grantor == owner:
		return 2
	}
	return 3
}

// privilege lets nothing but words into a statement.
func privilege(p string) string {
	for _, c := range p {
		if c != ' ' && (c < 'A' || c > 'Z') {
			return "NOTHING"
		}
	}
	return p
}

// objectACL gives the text of an entry for the privileges of a large object.
func objectACL(f *repo.LargeObjectFacts) string {
	all := grants(fmt.Sprintf("LARGE OBJECT %d", f.OID), f.Owner, f.ACL)
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}
