// Package copies keeps secondary stores in step with the repository's own store,
// reads from them what that one cannot give, and heals one from the other.
//
// A copy is the same repository in another store: the same repository.json, the
// same keys, the same objects under the same keys. Whoever has it and one
// unlocker has everything that it holds. It is made of listings alone: a round
// compares the listings of both stores and copies what is missing, so that there
// is no record of each object, and a process that dies anywhere in a round leaves
// nothing to take up but the next round.
//
// What makes a copy restorable at every moment is the order of a round. It looks
// backwards, at what refers before what is referred to, and copies forwards:
//
//  1. Permits to delete are read, and what they name is seen to be gone here.
//  2. Listings: the catalog log, whose newest record bounds the round; then
//     snapshots, index files, packs, and last the small objects. Whatever one
//     of them refers to was there when its own listing was made.
//  3. Small objects: repository.json, keys, domains, authorities, epochs.
//  4. Packs, then index files.
//  5. Log records and snapshots by number: a snapshot after the record that it
//     names, a record after the snapshots that it speaks of.
//  6. Deletions, backwards: snapshots, index files, packs, the rest.
//
// A step begins when the one before is durable in the copy. An object that has
// gone from the listings' store meanwhile (it was merged, or pruned) ends the
// round, and the next one looks again. Every object is verified on the way by
// whatever commits to its bytes: packs and index files by their ids, for which no
// key is needed, the rest by seals and MACs. What does not verify is told of,
// marked and left out; the copy then lacks it, as the store does.
//
// Nothing here is on the way of a backup. A copy that is full, slow or gone is
// behind, and says so.
package copies
