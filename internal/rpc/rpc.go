// Package rpc is how programs of Tuskvault reach each other: gRPC over mutual
// TLS with keep-alive on both sides, bounded messages and streams, deadlines
// for unary calls, identities taken from certificates, and errors that keep
// their kind across the wire.
//
// It is the only package that knows gRPC's codes: handlers return errors of
// internal/errs and callers get them back. It knows no service and no message.
package rpc

import (
	"time"
)

// Bounds that both sides share.
const (
	// MaxMessage bounds one message in either direction: a chunk has at most
	// 1 MiB, and lists are paged.
	MaxMessage = 4 << 20
	// maxHeaders bounds the headers of one call. Ours have a few hundred bytes,
	// an error message at most maxErrorText.
	maxHeaders = 64 << 10
	// maxErrorText bounds the message of an error on the wire.
	maxErrorText = 8 << 10
	// maxStreams bounds concurrent calls of one connection: an agent has one
	// session and a stream per worker, a console a few watches.
	maxStreams = 256
)

// Times that both sides share. A peer that vanished is noticed after
// keepAlive + keepAliveTimeout, whatever the calls on the connection do.
const (
	keepAlive        = 20 * time.Second
	keepAliveTimeout = 20 * time.Second
	// minPing is the shortest interval of pings that a server puts up with.
	minPing = 10 * time.Second
	// UnaryTimeout is the deadline of a unary call that has none of its own.
	UnaryTimeout = 30 * time.Second
	// serverUnaryTimeout ends a unary call whose caller gave no deadline.
	serverUnaryTimeout = 2 * time.Minute
	// handshakeTimeout bounds connecting and the TLS handshake.
	handshakeTimeout = 20 * time.Second
)
