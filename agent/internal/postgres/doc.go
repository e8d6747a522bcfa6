// Package postgres knows the live server: how an instance is reached, with
// which session settings rows are read and written, how rows are streamed off a
// connection in constant memory, what the server is (Inventory), what the host
// has to offer (Tools) and what is missing for a backup (Doctor).
//
// It decides nothing about what is backed up; logical/dump and logical/plan do.
//
// Names and other catalog texts travel as the bytes the server sent: the
// package never sets client_encoding, because a SQL_ASCII database has bytes
// that are no UTF-8.
package postgres
