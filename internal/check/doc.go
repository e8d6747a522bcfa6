// Package check finds out whether a repository is what docs/FORMAT.md says: it
// reads a store, changes nothing in it, and names each object that is damaged,
// missing, unknown or in contradiction to others, with the snapshots, databases
// and tables that it hurts.
//
// It needs a store alone; a program that can unlock the repository opens it and
// sets Options.Repository:
//
//	r, err := repo.Open(ctx, store, unlocker)
//	...
//	report, err := check.Run(ctx, store, check.Options{Repository: r, Dir: scratch})
//	if err == nil && report.Damaged() { ... exit code 7 ... }
//
// What is looked at, in this order. The order is that of writing turned round,
// so that a store in which backups go on shows no damage that is none: whatever
// a snapshot needs was there before it.
//
//  1. All keys: their spelling. repository.json, keys, domains, authorities,
//     epochs, the chain of the catalog log.
//  2. Snapshots: lengths, hashes, ids; with keys the commit record and the
//     references part.
//  3. Domain by domain: index files, then the directories of all packs, then
//     both against each other, both ways.
//  4. With keys: every chunk list, and every chunk of every list: it must be in a
//     pack's directory with a length that its plain length allows.
//  5. The frames of packs, all of them or a sample: their hashes; with ReadData
//     (and keys) they are opened and their names recomputed.
//  6. For what is wrong with chunks: the snapshots, databases and tables that
//     need them and have no whole copy.
//
// Without keys, parts sealed (lists, references, content, log payloads) are
// checked by their hashes only.
//
// Memory does not grow with the number of chunks: what is compared is written to
// sorted files in Options.Dir and merged. The bounds are in bounds.go. Nothing
// is allocated by what an object claims; only what was really read is kept.
//
// The package decides nothing about repair, knows no server and does not log.
package check
