// Package fleet holds the live sessions of agents: it checks what they say when
// they come, keeps what they report, hands them work, and passes their reports
// on to the jobs.
//
// An agent has at most one session; a newer one replaces the older. What an
// agent says about itself (names, labels, system identifiers, attempts) informs
// people and never selects keys, data, instances or jobs of others: everything
// is looked up under the id that authorization found in its certificate.
//
// Everything that decides about jobs is journaled by the job manager before
// anybody is told. What this package keeps in memory (who is online, clock
// skew, offers that wait for an answer) is lost with the process and comes back
// with the agents' next sessions.
//
// Each session is bounded: a queue of messages to the agent, a queue of reports
// from it, and the size of its inventory. Heartbeats are answered by a
// goroutine of their own, so that nothing an agent reports can make its own
// leases run out.
//
// The package knows no transport and no wire messages: Conn speaks its own.
package fleet
