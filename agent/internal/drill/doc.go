// Package drill proves a snapshot: it restores it into a PostgreSQL of its own,
// compares, checks, asks what an operator wants to be true, and reports.
//
// # What is there, and how it goes away
//
// Everything of a drill is in one folder below Options.Base, and nothing of it
// is meant to last:
//
//	BASE/lock                one agent works below a base
//	BASE/drill-JOB-N/mark    written first: whose it is, and what runs there
//	BASE/drill-JOB-N/log     what the server says
//	BASE/drill-JOB-N/hba     who may connect
//	BASE/drill-JOB-N/pg/     with data/ in it; this and the next two belong to the
//	BASE/drill-JOB-N/socket/ user of the server and are of mode 0700
//	BASE/drill-JOB-N/space-N/ a tablespace
//
// Where the agent is root and the server another's, nothing is ever written by
// root into a folder of that other: a link in it could lead anywhere.
//
// In order: the folder and its mark, initdb, the server, the mark again with the
// server's process, then databases one after the other, each dropped when it was
// looked at; at the end the server is stopped and the folder removed. Whatever
// ends the agent, the server ends with it: the kernel tells it that its parent
// died. What a crash leaves is a folder, and for a moment processes; the next
// start of the agent finds them by the mark, ends what runs there, and removes it.
//
// # What it can touch
//
// The server listens on no address and, where the kernel lets us, has no network
// at all; its socket is in a folder that only its own user may enter, and asks
// for a password that is nowhere. It runs at low priority with little memory,
// archives nothing, follows nobody. Tablespaces are made inside of the folder
// before anything is restored, so that the places where the snapshot had them
// are never used. A base inside of or above a folder of data is refused.
//
// What is restored is code, and it runs with the rights of the server's user.
// Assertions of operators do not: they run as a role that may read everything
// and change nothing, one query each, in a transaction that cannot write.
package drill
