package repo

import "github.com/tuskvault/tuskvault/internal/chunk"

// Fingerprint is the order-independent hash of rows; see chunk.Fingerprint.
type Fingerprint = chunk.Fingerprint
