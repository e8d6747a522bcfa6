package export

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/gzip"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// errDamaged is what is found to contradict itself.
var errDamaged = fmt.Errorf("the snapshot contradicts itself: %w", errs.Corrupt)

// classLargeObject is the OID of pg_largeobject.
const classLargeObject = 2613

// packedFile is a new file that is compressed by gzip.
type packedFile struct {
	*gzip.Writer
	file *os.File
}

func createPacked(path string) (*packedFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errs.OfFile(err)
	}
	return &packedFile{gzip.NewWriter(f), f}, nil
}

func (p *packedFile) close() error {
	err := p.Close()
	if err == nil {
		err = p.file.Sync()
	}
	return errs.OfFile(errors.Join(err, p.file.Close()))
}

// objectEntries say how each large object is made, for archives before 1.16: an
// entry for each, as pg_dump has them. They are made one by one, however many
// there are.
func (w *folder) objectEntries(ctx context.Context, out *pgarchive.Writer) error {
	return eachObject(ctx, w.Source, w.database.LargeObjects, func(f *repo.LargeObjectFacts) error {
		w.last++
		oid := fmt.Sprint(f.OID)
		made := pgarchive.Entry{ID: w.last, TableOID: classLargeObject, OID: f.OID, Tag: pg.Name(oid), Desc: "BLOB", Section: pgarchive.SectionPre, Owner: f.Owner,
			Defn: "SELECT pg_catalog.lo_create('" + oid + "');\n", Drop: "SELECT pg_catalog.lo_unlink('" + oid + "');\n"}
		if err := out.Entry(&made); err != nil {
			return err
		}
		return w.aboutObject(out, f, made.ID, "LARGE OBJECT "+oid, true)
	})
}

// aboutObject writes the entries for the comment on a large object and, with acl,
// for its privileges.
func (w *folder) aboutObject(out *pgarchive.Writer, f *repo.LargeObjectFacts, made pgarchive.ID, tag string, acl bool) error {
	entry := func(desc, tag, sql string) error {
		w.last++
		return out.Entry(&pgarchive.Entry{ID: w.last, Tag: pg.Name(tag), Desc: desc, Section: pgarchive.SectionNone, Owner: f.Owner, Defn: sql, Deps: []pgarchive.ID{made}})
	}
	if f.Comment != nil {
		object := fmt.Sprintf("LARGE OBJECT %d", f.OID)
		if err := entry("COMMENT", object, "COMMENT ON "+object+" IS "+lit(pg.Name(*f.Comment))+";\n"); err != nil {
			return err
		}
	}
	if sql := objectACL(f); acl && sql != "" {
		return entry("ACL", tag, sql)
	}
	return nil
}

// groupEntries say how large objects are made in groups, for archives from 1.16
// on: the definition of an entry is a list of OIDs, its privileges those of the
// first, which pg_restore repeats for each.
func (w *folder) groupEntries(ctx context.Context, out *pgarchive.Writer, groups []group) error {
	at := 0
	var oids []byte
	var first repo.LargeObjectFacts
	var comments []*repo.LargeObjectFacts // of the group; at most maxGroup
	flush := func() error {
		if at == len(groups) {
			return fmt.Errorf("large object %d: %w", first.OID, errDamaged)
		}
		g := groups[at]
		at++
		if err := out.Entry(&pgarchive.Entry{ID: g.made, TableOID: classLargeObject, OID: g.first, Tag: g.tag(), Desc: "BLOB METADATA", Section: pgarchive.SectionData,
			Owner: first.Owner, Defn: string(oids), Drop: "-- dummy"}); err != nil {
			return err
		}
		for _, f := range comments {
			if err := w.aboutObject(out, f, g.made, "", false); err != nil {
				return err
			}
		}
		tag := "LARGE OBJECT " + fmt.Sprint(g.first)
		if g.first != g.last {
			tag = "LARGE OBJECTS " + string(g.tag())
		}
		first.Comment = nil
		err := w.aboutObject(out, &first, g.made, tag, true)
		oids, comments = oids[:0], comments[:0]
		return err
	}
	err := eachObject(ctx, w.Source, w.database.LargeObjects, func(f *repo.LargeObjectFacts) error {
		if len(oids) > 0 && at < len(groups) && f.OID > groups[at].last {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(oids) == 0 {
			first = *f
		}
		oids = fmt.Appendf(oids, "%d\n", f.OID)
		if f.Comment != nil {
			comments = append(comments, f)
		}
		return nil
	})
	if err == nil && len(oids) > 0 {
		err = flush()
	}
	return err
}
