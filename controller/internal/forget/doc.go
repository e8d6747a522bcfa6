// Package forget lets snapshots go, and keeps those that must not.
//
// Forgetting is a wish: a record of the catalog, undone by unforgetting. After a
// delay that no call can shorten the Purger makes it so: the snapshot's object
// leaves the store, for good, and prune gets something to do. A hold keeps a
// snapshot whatever else was said.
//
// The rules are functions over records of one transaction; the Purger alone acts
// on the store.
package forget
