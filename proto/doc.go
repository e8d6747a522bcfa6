// Package proto is the wire contract of Tuskvault: what agents, the controller
// and tuskctl say to each other. The .proto files in tuskvault/v1 are the
// source; proto/gen holds the generated Go code and is never edited.
package proto
