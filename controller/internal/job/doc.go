// Package job runs jobs: a pure state machine (machine.go) and the Manager that
// feeds it with what agents, operators, the store and the clock say.
//
// Everything that decides is journaled in the catalog before anybody is told.
// Leases and progress are of the moment and live in memory: after a restart
// each live attempt has one whole lease for its agent to come back. A report
// counts only with the fencing number of the job's current attempt.
//
// The package knows no transport. It sends to agents through a Dispatcher and
// asks the repository through a Store.
package job
