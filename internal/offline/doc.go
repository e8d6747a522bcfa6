// Package offline reads a repository from its store and a key alone, with no
// controller alive: it lists snapshots, finds one, and gives the plaintext of
// its streams. It writes nothing to the store.
//
// Chunks are found by the store's index files, which are copied to a local
// folder and mapped: 28 bytes a chunk on disk, and little memory. Packs that no
// index file covers are found by their directories. The index is a cache: when a
// chunk is not where it says, every pack's directory is read before the chunk is
// called damaged.
//
// Nothing that is read is believed: snapshots must verify under the domain's
// keys, and each chunk must open under the name that the snapshot has for it.
package offline
