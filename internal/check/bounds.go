package check

import "time"

// Bounds, and why they are what they are. A check of 10^7 chunks takes about 50
// MiB of heap, of which most is room for the collector. What it writes to
// Options.Dir, for one domain at a time, is about 76 bytes a frame and 56 bytes
// an entry of a distinct chunk list, each once up to mergeWidth times sortMemory
// and up to twice beyond: 1.3 GB for 10^7 chunks.
const (
	// MaxFindings bounds the objects named in a report: a person needs the first
	// hundred, a script the number.
	MaxFindings = 10_000
	// maxEffects bounds what one finding names, maxAllEffects what all do together.
	maxEffects    = 50
	maxAllEffects = 50_000
	// MaxHurtSnapshots bounds the snapshots named.
	MaxHurtSnapshots = 10_000
	// MaxBadPacks and MaxBadFrames bound what is to be marked: a pack with more bad
	// frames counts as bad altogether.
	MaxBadPacks  = 10_000
	MaxBadFrames = 256
	// maxDomainFrames bounds the bad frames of one domain that are told apart, 80 bytes
	// each in memory; further packs count as bad altogether.
	maxDomainFrames = 1 << 17
	// maxTraced bounds the places of chunks (list, position) that are followed to
	// tables, in memory: about 60 bytes each.
	maxTraced = 1 << 18

	// sortMemory is the size of the part of a file that is sorted at once. At most
	// four are being filled.
	sortMemory = 8 << 20
	// mergeWidth bounds the files that are merged at once, each read through
	// mergeBuffer bytes: 2 MiB for each walk, of which at most four go on at a time.
	mergeWidth  = 64
	mergeBuffer = 32 << 10

	// maxPacks bounds the packs of one domain, whose ids are in memory: 48 bytes each.
	// At 64 MiB a pack that is 64 TiB of one domain.
	maxPacks = 1 << 20
	// maxLists bounds the distinct chunk lists of one domain, whose claims are in
	// memory: 44 bytes each. A list stands for several hundred chunks.
	maxLists = 1 << 22
	// maxSnapshots bounds the snapshots of a repository, 64 bytes each in memory.
	maxSnapshots = 1 << 20
	// maxIndexFile bounds an index file: pruning may write large ones.
	maxIndexFile = 16 << 30
	// maxSamePrefix bounds the chunks that agree in the 16 bytes that an index keeps:
	// among honest names there is one.
	maxSamePrefix = 4096

	// readers is how many objects are read at once. Directories have at most 10 MiB
	// each, usual ones 20 KiB.
	readers = 8
	// frameReaders is how many packs' frames are read at once: each holds one frame
	// and what it decompresses to, at most 32 MiB, usually below 1 MiB.
	frameReaders = 4
	// saveEvery is how often a check that reads frames notes how far it is.
	saveEvery = 15 * time.Second
)
