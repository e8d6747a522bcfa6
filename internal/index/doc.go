// Package index finds chunks: from a name to the packs that hold it
// (docs/FORMAT.md, "Index"). Each domain has a Set of immutable sorted files in
// a local folder, mapped into memory; a Builder makes new ones.
//
// A file keeps the first 16 bytes of each name. A hit is therefore a candidate:
// two names of one domain that agree in 128 bits have never been seen among
// honest names, but a host of the domain can make some on purpose. Whoever is
// about to rely on a hit, rather than to prefer it, must read the pack's
// directory (pack.ReadDirectory) and find the whole name at that offset there.
// A miss is certain for what the Set's files were built from.
//
// The index is a cache: every file can be rebuilt from pack directories. A file
// that is damaged is refused with errs.Corrupt in a *FileError that names it;
// the caller deletes it and rebuilds. It is never repaired, and never half used:
// a wrong "stored already" would lose rows.
package index
