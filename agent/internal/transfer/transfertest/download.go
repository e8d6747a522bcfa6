package transfertest

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// framesAtOnce is how many frames are in one answer.
const framesAtOnce = 7

// Download implements the service for the newest committed snapshot.
func (c *Controller) Download(rpc grpc.BidiStreamingServer[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse]) error {
	m, err := rpc.Recv()
	if err != nil {
		return err
	}
	if err := c.message(m); err != nil {
		return err
	}
	object, refs, err := c.newest()
	if err != nil {
		return err
	}
	if m.GetBegin().GetWantSnapshot() {
		for piece := range slices.Chunk(object, 1000) {
			last := &piece[len(piece)-1] == &object[len(object)-1]
			if err := rpc.Send(&tuskvaultv1.DownloadResponse{Message: &tuskvaultv1.DownloadResponse_Snapshot{Snapshot: &tuskvaultv1.SnapshotPiece{Data: piece, Last: last}}}); err != nil {
				return err
			}
		}
	}
	credit := m.GetBegin().GetWindowBytes()
	var frames []*tuskvaultv1.DownloadFrames // one frame each, waiting for credit
	for {
		for credit, frames, err = c.sendFrames(rpc, credit, frames); err != nil; {
			return err
		}
		m, err := rpc.Recv()
		if errors.Is(err, io.EOF) && len(frames) == 0 {
			return nil
		}
		if err == nil {
			err = c.message(m)
		}
		if err != nil {
			return err
		}
		credit += m.GetCredit().GetBytes()
		if r := m.GetRange(); r != nil {
			more, err := c.lookUp(refs, r)
			if err != nil {
				return err
			}
			frames = append(frames, more...)
		}
	}
}

func (c *Controller) newest() ([]byte, *repo.References, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, object := range c.snapshots {
		s, err := repo.DecodeSnapshot(object)
		if err != nil {
			return nil, nil, err
		}
		refs, err := s.OpenReferences(c.domain.Keys().Refs())
		return object, refs, err
	}
	return nil, nil, fmt.Errorf("no snapshot: %w", errs.NotFound)
}

func (c *Controller) sendFrames(rpc grpc.BidiStreamingServer[tuskvaultv1.DownloadRequest, tuskvaultv1.DownloadResponse], credit int64, frames []*tuskvaultv1.DownloadFrames) (int64, []*tuskvaultv1.DownloadFrames, error) {
	for len(frames) > 0 && (len(frames[0].Frames) == 0 || int64(len(frames[0].Frames[0])) <= credit) {
		m := frames[0]
		if len(m.Frames) == 0 { // about presence
			frames = frames[1:]
			if err := rpc.Send(&tuskvaultv1.DownloadResponse{Message: &tuskvaultv1.DownloadResponse_Frames{Frames: m}}); err != nil {
				return credit, frames, err
			}
			continue
		}
		credit -= int64(len(m.Frames[0]))
		frames = frames[1:]
		for len(m.Frames) < framesAtOnce && len(frames) > 0 && frames[0].Sequence == m.Sequence && int64(len(frames[0].Frames[0])) <= credit {
			credit -= int64(len(frames[0].Frames[0]))
			m.Frames, frames = append(m.Frames, frames[0].Frames[0]), frames[1:]
		}
		if err := rpc.Send(&tuskvaultv1.DownloadResponse{Message: &tuskvaultv1.DownloadResponse_Frames{Frames: m}}); err != nil {
			return credit, frames, err
		}
	}
	return credit, frames, nil
}

func (c *Controller) lookUp(refs *repo.References, r *tuskvaultv1.DownloadRange) ([]*tuskvaultv1.DownloadFrames, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := refs.Lists[r.GetList()]
	names := []seal.Name{ref.Name}
	if !r.GetListChunk() {
		g := c.domain.WriteGrant()
		plain, err := seal.NewOpener(c.domain.ID(), g.Name, g.Refs, nil, repo.MaxListBytes).Open(nil, c.frames[ref.Name], seal.KindList, ref.Name)
		if err != nil {
			return nil, err
		}
		entries, err := repo.DecodeList(plain)
		if err != nil {
			return nil, err
		}
		names = nil
		for _, e := range entries[r.GetFirst():][:r.GetCount()] {
			names = append(names, e.Name)
		}
	}
	var frames []*tuskvaultv1.DownloadFrames
	if r.GetPresence() {
		answer := &tuskvaultv1.DownloadFrames{Sequence: r.GetSequence()}
		for i, n := range names {
			if _, ok := c.frames[n]; !ok {
				answer.Missing = append(answer.Missing, r.GetFirst()+uint32(i))
			}
		}
		return []*tuskvaultv1.DownloadFrames{answer}, nil
	}
	for i, n := range names {
		f, ok := c.frames[n]
		if !ok {
			return nil, fmt.Errorf("chunk %d of list %d: pack 1234 does not have it: %w", int(r.GetFirst())+i, r.GetList(), errs.Corrupt)
		}
		frames = append(frames, &tuskvaultv1.DownloadFrames{Sequence: r.GetSequence(), Frames: [][]byte{f}})
	}
	return frames, nil
}
