// Package load brings databases of a logical snapshot into a server. It owns the
// doing: the order of a restore's steps (graph.go, schedule.go), the sessions that
// take them, the comparison with the manifest, what is left after a failure, and
// the wording of the statements that finish a database (finish.go, globalsql.go,
// privileges.go).
//
// It does not own the deciding: package plan says what is done and what stands in
// the way, and a dry run is the plan alone. Nor does it own the reading of the
// snapshot: package stream hands on its rows and sees that they are whole.
//
// One database is restored in this order. What is there after a crash between
// two steps is said in brackets; nobody sees the target's name before the end.
//
//  1. The database is created under a temporary name, which a later attempt of
//     the same job drops first. [the temporary database]
//  2. The pre-data entries of the archive are executed in its order. [the same]
//  3. Rows, sequences and large objects are loaded by several sessions; a
//     table's indexes and constraints follow as soon as its rows are in, foreign
//     keys come last. Rows are compared with the manifest as they are handed to
//     the server, whose own count must agree; a table is also read back where
//     that was asked for or rows may have changed on their way in (readsBack).
//     Rows that need a name that does not exist yet are tried again when
//     everything else is there. [the same]
//  4. Privileges, then materialized views, event triggers and what belongs to
//     subscriptions, which stay disabled. [the same]
//     With a superuser's session foreign keys may still be made then.
//  5. Statistics are gathered of every table, beside the end of 4. [the same]
//  6. In one transaction, which is durable before it returns: owner, privileges
//     and settings of the database, the old database of that name moves away, the
//     new one takes its name. [either nothing of it, or the new database in place]
//  7. The old database, if there was one, is dropped. [the old database under a
//     temporary name]
//
// A failure before 6 drops the temporary database. Memory is bounded by one
// chunk and one copy buffer for each session, plus the manifest and the table of
// contents of the archive.
package load
