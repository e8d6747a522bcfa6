package repo

import "github.com/tuskvault/tuskvault/internal/chunk"

// Fingerprint is the order-independent hash of rows; see chunk.Fingerprint.
type Fingerprint = chunk.Fingerprint

func fingerprintFrom(b [16]byte) Fingerprint { return chunk.FingerprintFrom(b) }
