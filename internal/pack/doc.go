// Package pack keeps many sealed chunks in one stored object (docs/FORMAT.md,
// "Pack"): a header, frames, a directory in clear and a trailer.
//
// A pack is written to a spool file and never held in memory; a crash leaves a
// spool file and nothing else (CleanSpool removes those at start). Its id is the
// SHA-256 of everything but the frames, and the directory holds each frame's
// hash, so that the id commits to every byte and a pack can be scrubbed, copied
// and indexed without any key. The keyed authentication of the trailer says in
// addition that a controller of this domain wrote it.
//
// The package knows neither stores nor keys of data; it opens no chunk.
package pack
