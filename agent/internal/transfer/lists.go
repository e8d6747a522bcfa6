package transfer

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// keptLists bounds the chunk lists kept in memory. A list has at most 475 KB of
// plaintext and about as much decoded, so this is at most 16 MB; most lists have
// a tenth of it. Iterators go through lists in order, each needs one at a time.
const keptLists = 16

// listCache fetches chunk lists, one at a time, and keeps the newest.
type listCache struct {
	fetching *semaphore.Weighted // of 1, guards rpc and sequence
	rpc      grpc.BidiStreamingClient[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse]
	sequence uint64

	mu    sync.Mutex
	lists map[uint32]*list.Element
	order list.List // of *cachedList, newest first
}

type cachedList struct {
	index   uint32
	plain   []byte
	entries []repo.ListEntry
}

func (c *listCache) find(i uint32) *cachedList {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.lists[i]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedList)
}

func (c *listCache) keep(l *cachedList) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil {
		c.lists = map[uint32]*list.Element{}
	}
	c.lists[l.index] = c.order.PushFront(l)
	if c.order.Len() > keptLists {
		oldest := c.order.Remove(c.order.Back()).(*cachedList)
		delete(c.lists, oldest.index)
	}
}

// List gives the plaintext of the chunk list at position i of the references;
// repo.DecodeList reads it. The caller must not change it.
func (d *Downloader) List(ctx context.Context, i uint32) ([]byte, error) {
	l, err := d.list(ctx, i)
	if err != nil {
		return nil, err
	}
	return l.plain, nil
}

// entries gives the entries of a list.
func (d *Downloader) entries(ctx context.Context, i uint32) ([]repo.ListEntry, error) {
	l, err := d.list(ctx, i)
	if err != nil {
		return nil, err
	}
	return l.entries, nil
}

func (d *Downloader) list(ctx context.Context, i uint32) (*cachedList, error) {
	if l := d.lists.find(i); l != nil {
		return l, nil
	}
	d.mu.Lock()
	refs := d.refs
	d.mu.Unlock()
	if refs == nil {
		panic("transfer: lists asked for before the snapshot")
	}
	if uint64(i) >= uint64(len(refs.Lists)) {
		return nil, fmt.Errorf("list %d of a snapshot that has %d: %w", i, len(refs.Lists), errs.Invalid)
	}
	if err := d.lists.fetching.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("list %d: %w", i, context.Cause(ctx))
	}
	defer d.lists.fetching.Release(1)
	if l := d.lists.find(i); l != nil {
		return l, nil
	}
	l, err := d.fetchList(i, refs.Lists[i])
	if err != nil {
		return nil, fmt.Errorf("list %d: %w", i, err)
	}
	d.lists.keep(l)
	return l, nil
}

// Missing gives the positions in list i of the chunks that the controller knows to
// be missing, in order: those that Stream would fail for. It reads no chunk. The
// error's kind is errs.Corrupt when the list itself is damaged.
func (d *Downloader) Missing(ctx context.Context, i uint32) ([]uint32, error) {
	l, err := d.list(ctx, i)
	if err != nil {
		return nil, err
	}
	if err := d.lists.fetching.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("list %d: %w", i, context.Cause(ctx))
	}
	defer d.lists.fetching.Release(1)
	missing, err := d.exchangePresence(i, uint32(len(l.entries)))
	if err != nil {
		d.lists.rpc = nil // it has ended: the next question gets a new one
		return nil, fmt.Errorf("list %d: %w", i, err)
	}
	return missing, nil
}

func (d *Downloader) exchangePresence(i, count uint32) ([]uint32, error) {
	c := &d.lists
	if c.rpc == nil {
		rpc, err := d.begin(d.ctx, false)
		if err != nil {
			return nil, err
		}
		c.rpc, c.sequence = rpc, 0
	}
	c.sequence++
	m := rangeRequest(c.sequence, i, 0, count)
	m.GetRange().Presence = true
	_ = c.rpc.Send(m) // when it fails, Recv says why
	answer, err := c.rpc.Recv()
	if err != nil {
		return nil, ended(err)
	}
	f := answer.GetFrames()
	if f.GetSequence() != c.sequence || len(f.GetFrames()) > 0 || len(f.GetMissing()) > int(count) {
		return nil, fmt.Errorf("an answer of %d frames to question %d about what is missing: %w", len(f.GetFrames()), c.sequence, errs.Invalid)
	}
	return f.GetMissing(), nil
}

// fetchList fetches one list over the stream that all lists share. The caller
// holds the right to fetch.
func (d *Downloader) fetchList(i uint32, ref repo.ListRef) (*cachedList, error) {
	c := &d.lists
	if c.rpc == nil {
		rpc, err := d.begin(d.ctx, false)
		if err != nil {
			return nil, err
		}
		c.rpc, c.sequence = rpc, 0
	}
	frame, err := d.exchangeList(i)
	if err != nil {
		c.rpc = nil // it has ended: the next list gets a new one
		return nil, err
	}
	plain, err := d.opener.Open(nil, frame, seal.KindList, ref.Name)
	if err != nil {
		return nil, err
	}
	entries, err := repo.DecodeList(plain)
	if err != nil {
		return nil, err
	}
	if len(entries) != int(ref.Entries) {
		return nil, fmt.Errorf("%d entries, the references say %d: %w", len(entries), ref.Entries, errs.Corrupt)
	}
	return &cachedList{index: i, plain: plain, entries: entries}, nil
}

// exchangeList asks for a list chunk and gives the bytes back as credit.
func (d *Downloader) exchangeList(i uint32) ([]byte, error) {
	c := &d.lists
	c.sequence++
	m := rangeRequest(c.sequence, i, 0, 0)
	m.GetRange().ListChunk = true
	_ = c.rpc.Send(m) // when it fails, Recv says why
	answer, err := c.rpc.Recv()
	if err != nil {
		return nil, ended(err)
	}
	frames := answer.GetFrames().GetFrames()
	if answer.GetFrames().GetSequence() != c.sequence || len(frames) != 1 {
		return nil, fmt.Errorf("%d frames of question %d, expected one of %d: %w", len(frames), answer.GetFrames().GetSequence(), c.sequence, errs.Invalid)
	}
	d.fetched.Add(int64(len(frames[0])))
	_ = c.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Credit{
		Credit: &tuskvaultv1.DownloadCredit{Bytes: int64(len(frames[0]))}}}) // when it fails, the next Recv says why
	return frames[0], nil
}
