// Package prune deletes packs that no snapshot needs (docs/FORMAT.md, "Prune").
//
// It has no pins, no reference counts and, but for the courtesy to offline
// readers, no clock: it condemns packs for ever, waits for the jobs that may
// have been told that something in them is stored, copies what is needed after
// all, and deletes only what the catalog log in the store permits. Each step is
// in the catalog before the next is done, so that a process may end anywhere and
// the next one goes on: see Pruner.
//
// plan.go decides and touches nothing; pruner.go and steps.go act, one domain at
// a time; runner.go and run.go give runs over the domains a life, a name and a record;
// ballast.go keeps some room for the day on which the store is full.
package prune
