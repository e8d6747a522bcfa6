package ingest

import "time"

// Bounds, and why they are what they are. The aim is 256 MiB for the whole
// package with 20 agents that upload at once over four streams each: 128 MiB of
// windows, 50 of indexes in memory, 32 of cache and, when others restore at the
// same time, 40 of reading ahead. Commits come on top, one content at a time: a
// usual one takes a few megabytes, one of 600,000 tables a gigabyte.
const (
	// windowTotal bounds the bytes that all upload streams together may have under
	// way: sent and not yet in a spool file. It is all that a slow spool disk can
	// make pile up in memory (buffers of the connections and of grpc, messages
	// being decoded). 128 MiB leave as much again for everything else and for what
	// the collector has not taken yet.
	windowTotal = 128 << 20
	// windowWanted is what a stream gets while there is plenty: 2 MiB under way
	// are 100 MB/s at 20 ms of round trip. windowLeast is what it waits for
	// otherwise, unless a frame of its domain's largest chunk needs more. At
	// windowLeast 102 streams fit; later ones wait for one to end.
	windowWanted = 2 << 20
	windowLeast  = 5 << 18
	// creditStep is the number of spooled bytes that are granted anew at once:
	// small enough to keep the pipe full, large enough to cost nothing.
	creditStep = 256 << 10
	// jobStreams bounds the streams of one attempt, up and down each, so that a
	// stolen host cannot take all windows: an agent with the standard memory opens
	// at most 24.
	jobStreams = 32

	// maxNames is the wire's bound for a question, maxPutBytes for the frames of
	// one message unless it is only one.
	maxNames    = 1024
	maxPutBytes = 1 << 20

	// putsInFlight is how many packs of one stream may be on their way to the store
	// while the next is filled; storePuts bounds them over all streams. A spool
	// file is 64 MiB, so a stream has at most 192 MiB in SpoolDir. Packs are read
	// from the spool: in memory a put costs what the driver buffers.
	putsInFlight = 2
	storePuts    = 8

	// spoolPacks bounds the packs in SpoolDir, 20 GiB: three for each stream that has
	// a window, and those of streams that have ended while the store was slow. Past
	// it, streams wait: an agent that comes back again and again while the store
	// does not answer must not fill the disk that the catalog is on.
	spoolPacks = 320

	// jobPending bounds the chunks of a job that are only in memory's index, and
	// allPending those of all jobs: past either, the job writes an index file. An
	// entry takes about 100 bytes in its map, so this is at most 50 MiB; with one
	// job it is an index file each 64 GB.
	jobPending = 256 << 10
	allPending = 512 << 10
	// leastFlushed keeps the second bound from making an index file of every pack.
	leastFlushed = 16 << 10

	// tailSize is the size below which an open pack that is flushed is merged with
	// those of the job's other streams. tailLinger is how long a merged pack waits
	// for a stream that has not asked to be flushed.
	tailSize   = 16 << 20
	tailLinger = 100 * time.Millisecond

	// commits is how many commits run at once: each may hold both parts in memory
	// and, while it decodes, a few times the content.
	commits = 2
	// readers is how many reads of the store one commit, one recovery or one
	// download stream has under way.
	readers = 8

	// authorizeEvery is how often a lasting call asks whether its attempt is still current.
	authorizeEvery = 30 * time.Second
	// storeTimeout bounds one act on the store, from the first byte to durable,
	// with the store wrapper's own repetitions in it.
	storeTimeout = 15 * time.Minute
	// idleJob is how long a job has no stream before its chunks are indexed.
	idleJob = 2 * time.Minute
)
