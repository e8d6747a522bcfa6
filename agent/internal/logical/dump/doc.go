// Package dump reads the databases of an instance into chunks and describes
// them in the manifest.
//
// Every database is read by a coordinator and any number of workers, in this
// order; nothing of it is durable here, so a crash between two steps leaves only
// chunks that no snapshot names:
//
//  1. what the role cannot read is named (preflight): such a database is
//     refused, never read in part;
//  2. the coordinator begins a transaction, locks every table (ACCESS SHARE) and
//     only then exports its snapshot, then lists again: the other order loses
//     rows without an error when somebody truncates or rewrites a table in between;
//  3. pg_dump makes the schema archive under that snapshot;
//  4. what pg_dump leaves out, sequences and properties are read;
//  5. workers import the snapshot and copy tables, ranges of tables and large
//     objects, the biggest first; a table that somebody's queued DDL keeps from a
//     worker is copied by the coordinator, which holds its lock already;
//  6. the coordinator commits: only if it still can were all locks held to the
//     end, and only then does the database count.
//
// Databases follow one another, the biggest first, and overlap so that no
// worker is idle. A database that fails takes nothing else with it.
//
// Rows are cut after whole rows by content under the domain's key, so that equal
// rows give equal chunks; an unchanged database gives the same chunk names again.
package dump
