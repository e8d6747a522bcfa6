// Package pgarchive reads the head and the table of contents of archives that
// pg_dump writes in its custom format, versions 1.14 to 1.16 (PostgreSQL 13 to
// 18), and says of each entry when it is executed and who must own what it
// makes. It writes the table of contents of the directory format, which
// pg_restore takes. It executes nothing.
//
// An archive comes from a repository, but what is in it was written by a server:
// it is read as hostile input. Nothing is allocated by what a length claims,
// and everything is bounded (see the constants in read.go).
//
//	a, err := pgarchive.Read(r)
//	for i := range a.Entries {
//		e := &a.Entries[i]
//		if a.PhaseOf(e) == pgarchive.PreData { … e.Defn … e.OwnerStatement() … }
//	}
package pgarchive
