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
// Every bucket of records is exported but those that are of the moment, or can be
// found again in the store (packs of unfinished jobs, job logs). What was exported
// comes back by Import: full records and the log after them, whatever types of
// records they hold. Indexes are made anew. The index of chunks is not in here at
// all: see internal/index.
//
// The package knows no transport and none of the wire's messages.
package catalog
