// Package export writes snapshots in formats that need no Tuskvault: a database
// as a folder for stock pg_restore, or as SQL for stock psql; roles and what else
// belongs to a whole server as SQL; a whole instance as a folder of all that.
//
// It is given a snapshot's content and a Source of plaintext, wherever that
// comes from, and writes files. It knows no keys, stores or connections.
//
// What it promises:
//
//   - What appears under the name asked for is whole and durable. Until then it
//     has a temporary name beside it, which is removed when the export fails; a
//     crash leaves that.
//   - Every row is counted, and the sum over the rows compared with the
//     snapshot's fingerprint. A difference fails the export. With KeepGoing it is
//     reported, what can be written is, and the error comes at the end.
//   - Rows that cannot be in a text are reported, never left out in silence.
//   - Memory is bounded: rows and large objects are streamed; what is held is the
//     schema's table of contents and a few buffers for each of Options.Jobs.
//
// Names and texts come from servers that may be hostile. Names are quoted, and
// written into comments in their display form; rows that would end a COPY are
// refused; scripts are inside \restrict, so that no text in them can make psql
// run commands of its own.
package export
