// Package transfer moves chunks between this agent and its controller. Upload
// asks which chunks are missing, compresses, seals and sends those; download
// fetches chunks by position, verifies and opens them, and hands them out in
// order. Everything is pipelined: no stage waits a round trip for one chunk.
//
// A backup's workers use it like this:
//
//	err := transfer.WithUploader(ctx, conn, j, transfer.Options{}, func(ctx context.Context, u *transfer.Uploader) error {
//		s, err := u.Stream(ctx) // one for each worker
//		...
//		plain, err := u.Buffer(ctx)
//		plain = append(plain, rows...)
//		err = s.Put(ctx, seal.KindRowsText, namer.Name(seal.KindRowsText, plain), plain)
//		...
//		err = s.Flush(ctx)
//		return u.Commit(ctx, transfer.Manifest{References: refs, Content: content, Complete: true})
//	})
//
// The callback's ctx ends, with the controller's words as its cause, as soon as
// any stream of the attempt fails: an attempt has no use for half its streams.
// A failed attempt is repeated by the controller as a new one, to which every
// chunk that was acknowledged is present already. When a With function has
// returned, no goroutine and no buffer of it is left.
//
// Memory is bounded by Options.Memory; see budget.go.
package transfer

import (
	"runtime"

	"github.com/tuskvault/tuskvault/internal/seal"
)

// Options tune a transfer. The zero value is the standard.
type Options struct {
	// Memory bounds the bytes of all buffers of the job's transfer, plain and
	// sealed. 0 means DefaultMemory; less than 8 chunks of the largest size is raised to that.
	Memory int64
	// Workers is the number of goroutines that compress and seal, or open. 0 means GOMAXPROCS.
	Workers int
	// Streams bounds how many iterators of a Downloader may be open at once; each
	// has its fixed share of Memory, so that a slow one never starves another.
	// 0 means DefaultStreams. Uploads do not use it.
	Streams int
}

// DefaultMemory holds 48 chunks of the largest size and 270 frames of the average
// one: eight workers have five chunks each under way.
const DefaultMemory = 64 << 20

// DefaultStreams is enough for the restore's standard number of jobs.
const DefaultStreams = 8

func (o Options) withDefaults(maxPlain int) Options {
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	o.Memory = max(o.Memory, 8*int64(seal.MaxFrame(maxPlain)))
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Streams <= 0 {
		o.Streams = DefaultStreams
	}
	return o
}

// Stats count what an upload has moved so far.
type Stats struct {
	// Chunks put by the caller and their plain bytes.
	Chunks     int64
	PlainBytes int64
	// NewChunks had to be sent; NewPlainBytes are their plain bytes.
	NewChunks     int64
	NewPlainBytes int64
	// SentBytes are sealed bytes handed to the connection.
	SentBytes int64
	// DurableChunks were acknowledged as durable and findable.
	DurableChunks int64
}

// Manifest is what Commit hands over: both parts are sealed already.
type Manifest struct {
	// References is the sealed references part.
	References []byte
	// Content is the sealed content part.
	Content []byte
	// Complete tells that every database asked for is completely in it.
	Complete bool
	// SealEpoch is the epoch of the key that sealed Content.
	SealEpoch uint32
}
