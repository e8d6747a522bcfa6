package dump

import (
	"context"
	"errors"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// objectMetaBytes is about what the line of one large object takes.
const objectMetaBytes = 60

// listObjects plans the reading of large objects. pg_dump would take memory and
// a round trip for each; a binary COPY of pg_largeobject takes neither.
func (c *coordinator) listObjects(ctx context.Context) error {
	var count, size, block int64
	err := c.conn.Each(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata), pg_catalog.pg_relation_size('pg_catalog.pg_largeobject'),
		pg_catalog.current_setting('block_size')::int8 / 4`, nil, []any{&count, &size, &block}, func() error { return nil })
	if err != nil || count == 0 {
		return err
	}
	c.d.objects = &item{db: c.d, kind: itemObjects, size: size}
	c.d.objectMeta = &item{db: c.d, kind: itemObjectMeta, size: count * objectMetaBytes}
	c.d.out.LargeObjects = &repo.LargeObjects{Count: count, BlockSize: int(block)}
	return nil
}

// The order is that of the index, so that reading needs no sort file and equal
// objects give equal chunks.
const objectsCopy = `COPY (SELECT loid, pageno, data FROM pg_catalog.pg_largeobject ORDER BY loid, pageno) TO STDOUT (FORMAT binary)`

var objectMetaQuery = `SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('oid', m.oid::int8, 'owner', pg_catalog.pg_get_userbyid(m.lomowner),
	'acl', ` + aclJSON("m.lomacl") + `, 'comment', pg_catalog.obj_description(m.oid, 'pg_largeobject')))::text FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid`

// copyObjects reads large objects, or what is known of them.
func (r *run) copyObjects(conn *postgres.Conn, cut *cutting, i *item) error {
	ctx := i.db.ctx
	w := &runWriter{ctx: ctx, cut: cut, db: i.db, table: i.count, kind: seal.KindLargeObject, lists: i.db.lists.Run(i.order(seal.KindLargeObject))}
	if err := conn.Exec(ctx, "SAVEPOINT tuskvault_objects; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"); err != nil {
		return err
	}
	var err error
	if i.kind == itemObjects {
		_, err = conn.CopyOut(ctx, objectsCopy, true, w.piece)
	} else {
		err = copyObjectMeta(ctx, conn, w)
	}
	if err == nil {
		err = w.close()
	}
	if err != nil {
		w.abandon()
		return err
	}
	i.runs = []*runWriter{w}
	// Going back to the savepoint takes the settings with it.
	return conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault_objects; RELEASE SAVEPOINT tuskvault_objects")
}

// copyObjectMeta reads one line for each large object, without keeping them.
func copyObjectMeta(ctx context.Context, conn *postgres.Conn, w *runWriter) error {
	var text string
	var line []byte
	var failed error
	err := conn.Each(ctx, objectMetaQuery, nil, []any{&text}, func() error {
		line = append(append(line[:0], text...), '\n')
		failed = w.whole(line)
		return failed
	})
	return errors.Join(failed, err)
}
