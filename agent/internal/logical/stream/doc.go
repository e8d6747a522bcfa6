// Package stream reads the streams of a snapshot as a restore needs them: an
// archive, the facts and pages of large objects, the rows of a run as COPY FROM
// takes them. It owns the check that what is handed on is whole: a reader that
// ends with io.EOF gave what the manifest says, and rows are summed up as they
// pass.
//
// It does not own where bytes come from: fetching, opening and decompressing
// chunks is a Source's work. It talks to no server.
//
// Memory is bounded by the chunk under way of each open reader; EachObject holds
// the facts of one large object, at most maxObjectLine, and ReadArchive a whole
// table of contents.
package stream
