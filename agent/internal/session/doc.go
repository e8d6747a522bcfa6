// Package session is the agent's side of its controller: it enrolls, keeps one
// outbound stream open, renews its certificate, takes work and reports on it.
//
// Three parts live side by side. The link is one stream: it comes and goes with
// the network. The runner executes attempts and outlives links: an attempt goes
// on while the controller is away, for at most Options.Orphan. The journal
// outlives the process. What crosses from the runner to a link is pulled by the
// link's only writer, heartbeats first, so that neither work nor a full queue of
// log lines or progress can hold a heartbeat up. Log lines and progress are
// bounded and drop the oldest; results are never dropped: they stay in the
// journal and are sent in every session until they are acknowledged.
//
// The agent has the last word: its own configuration says which kinds of work it
// takes (Options.Allow). It obeys no controller of an epoch lower than the
// highest it has seen, which is kept on disk.
//
// It is one of the two packages of the agent that know the wire; convert.go and
// inventory.go hold all conversions.
package session
