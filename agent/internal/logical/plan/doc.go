// Package plan decides what a restore will do, or why it will not. It owns
// everything that looks without changing anything: what of the snapshot is
// restored (Make), what that needs of the server, what the server has (Target,
// LiveFacts), what may go wrong (checks*.go), and how all of it is worded for
// people. A dry run is a plan and nothing else.
//
// Looking is apart from deciding: Decide is a pure function of what was found.
// Sessions that look are read-only.
//
// It does not own what is done: package load executes a plan, and this package
// never imports it. What of a database is selected, and what comes along, is
// decided by package selection; the snapshot's bytes come through package stream.
package plan
