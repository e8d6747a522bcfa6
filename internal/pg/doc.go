// Package pg holds pure facts about PostgreSQL: names and their quoting,
// log positions, versions. It talks to no server and imports only the
// standard library.
package pg
