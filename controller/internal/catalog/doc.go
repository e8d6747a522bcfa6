// Package catalog is the controller's own record of the fleet, of jobs and of
// snapshots: one bbolt file, records in protobuf messages of its own, forward
// migrations from version 1 on.
//
// All access goes through View and Update. An Update names its class: changes
// of exported buckets are collected into the outbox inside the very bbolt
// transaction that makes them, so that what the store's catalog log will say
// and what the file says can never differ by a crash. Package export ships the
// outbox; a Sync update returns only when its batch is in the store.
//
// What is in here and nowhere else is exported (fleet, tokens, operators, jobs,
// audit); what can be found again in the store or is of the moment is not
// (packs of unfinished jobs, job logs). The index of chunks is not in here at
// all: see internal/index.
//
// The package knows no transport and none of the wire's messages.
package catalog
