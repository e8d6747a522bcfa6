package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Plains opens snapshots for reading in plain.
type Plains interface {
	// OpenPlain opens a snapshot.
	OpenPlain(ctx context.Context, s catalog.Snapshot) (Plain, error)
}

// Plain reads one snapshot in plain; one goroutine at a time uses it.
type Plain interface {
	// Read gives the chunks of spans in order, each verified. plain is valid until
	// fn returns; while fn does not return, little is read ahead.
	Read(ctx context.Context, spans []repo.Span, fn func(e repo.ListEntry, plain []byte) error) error
}

// Bounds of exports.
const (
	// maxExports bounds the streams of all exports: each reads ahead and opens
	// chunks, some 10 MiB.
	maxExports = 32
	// maxExportSpans is the wire's bound for a question.
	maxExportSpans = 4096
	// exportMessage is the aim for one message of chunks, and the bound for a piece
	// of one: a chunk may be larger than a message.
	exportMessage = 1 << 20
)

type exportStream = grpc.BidiStreamingServer[tuskvaultv1.ExportRequest, tuskvaultv1.ExportResponse]

// exportService is ExportService.
type exportService struct {
	tuskvaultv1.UnimplementedExportServiceServer
	deps  Deps
	cache *manifestCache
	open  chan struct{} // one place a stream
}

// Export serves one stream. What is about to be read is audited before anything
// is given out, and nothing else can be read on the stream.
func (s *exportService) Export(stream exportStream) error {
	select {
	case s.open <- struct{}{}:
		defer func() { <-s.open }()
	default:
		return fmt.Errorf("export: %d streams are open already: %w", maxExports, errs.Busy)
	}
	m, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	begin := m.GetBegin()
	if begin == nil {
		return fmt.Errorf("export: first message is not begin: %w", errs.Invalid)
	}
	if err := s.serve(stream, begin); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func (s *exportService) serve(stream exportStream, begin *tuskvaultv1.ExportBegin) error {
	ctx := stream.Context()
	c, err := CallerFrom(ctx)
	if err != nil {
		return err
	}
	snapshot, release, err := s.use(ctx, begin.GetSnapshot())
	if err != nil {
		return err
	}
	defer release()
	content, err := s.cache.content(ctx, snapshot)
	if err != nil {
		return fmt.Errorf("snapshot %s: read manifest: %w", snapshot.ID.Short(), err)
	}
	chosen, err := chooseContent(content, begin)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", snapshot.ID.Short(), err)
	}
	if err := s.deps.Trail.Record(ctx, record(c, "snapshot.export", "snapshot "+snapshot.ID.String(), exportDetail(begin))); err != nil {
		return err
	}
	if begin.GetWantContent() {
		if err := sendContent(stream, snapshot, chosen); err != nil {
			return err
		}
	}
	plain, err := s.deps.Plains.OpenPlain(ctx, snapshot)
	if err != nil {
		return err
	}
	return answer(stream, plain, permittedSpans(chosen))
}

// use resolves the snapshot and keeps it from being purged until release is
// called. It is looked at again once it is counted as used: a purge that was
// decided in between says so in its record.
func (s *exportService) use(ctx context.Context, ref string) (snapshot catalog.Snapshot, release func(), err error) {
	find := func(ref string) error {
		return s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { snapshot, err = findSnapshot(tx, ref); return err })
	}
	if err := find(ref); err != nil {
		return snapshot, nil, err
	}
	release = s.deps.Deletion.Users.Use(snapshot.ID)
	if err := find(snapshot.ID.String()); err != nil {
		release()
		return snapshot, nil, err
	}
	return snapshot, release, nil
}

// exportDetail says for the audit trail what is exported.
func exportDetail(b *tuskvaultv1.ExportBegin) string {
	var parts []string
	for _, d := range b.GetDatabases() {
		parts = append(parts, "database "+clip(d, maxReference))
	}
	if b.GetAllDatabases() {
		parts = append(parts, "all databases")
	}
	if b.GetGlobals() {
		parts = append(parts, "globals")
	}
	if b.GetPasswords() {
		parts = append(parts, "hashes of passwords")
	}
	if !b.GetWantContent() {
		parts = append(parts, "further stream")
	}
	return strings.Join(parts, ", ")
}

// sendContent sends what was chosen of the content.
func sendContent(stream exportStream, s catalog.Snapshot, chosen *repo.Content) error {
	packed, err := repo.EncodeContent(chosen)
	if err != nil {
		return err
	}
	for first := true; first || len(packed) > 0; first = false {
		n := min(len(packed), exportMessage)
		if err := stream.Send(&tuskvaultv1.ExportResponse{Message: &tuskvaultv1.ExportResponse_Content{
			Content: &tuskvaultv1.ExportContent{SnapshotId: s.ID.String(), Data: packed[:n], Last: n == len(packed)}}}); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}

// answer answers questions until the operator has no more.
func answer(stream exportStream, plain Plain, permitted spanSet) error {
	for sequence := uint64(1); ; sequence++ {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r := m.GetRead()
		switch {
		case r == nil:
			return fmt.Errorf("message of no known kind: %w", errs.Unsupported)
		case r.GetSequence() != sequence:
			return fmt.Errorf("question %d, expected %d: %w", r.GetSequence(), sequence, errs.Invalid)
		case len(r.GetSpans()) < 1 || len(r.GetSpans()) > maxExportSpans:
			return fmt.Errorf("question %d: %d spans, must be 1 to %d: %w", sequence, len(r.GetSpans()), maxExportSpans, errs.Invalid)
		}
		spans := make([]repo.Span, len(r.GetSpans()))
		for i, p := range r.GetSpans() {
			spans[i] = repo.Span{List: p.GetList(), First: p.GetFirst(), Count: p.GetCount()}
			if !permitted.has(spans[i]) {
				return fmt.Errorf("question %d: entries %d to %d of list %d are not of what is exported: %w",
					sequence, spans[i].First, uint64(spans[i].First)+uint64(spans[i].Count), spans[i].List, errs.Denied)
			}
		}
		out := &chunkSender{stream: stream, sequence: sequence}
		if err := plain.Read(stream.Context(), spans, out.chunk); err != nil {
			return err
		}
		if err := out.flush(true); err != nil {
			return err
		}
	}
}

// chunkSender puts chunks into messages.
type chunkSender struct {
	stream   exportStream
	sequence uint64
	chunks   []*tuskvaultv1.ExportChunk
	bytes    int
}

func (s *chunkSender) chunk(e repo.ListEntry, plain []byte) error {
	for first := true; first || len(plain) > 0; first = false {
		if s.bytes >= exportMessage {
			if err := s.flush(false); err != nil {
				return err
			}
		}
		n := min(len(plain), exportMessage-s.bytes)
		// plain is used again by the reader before the message is sent.
		s.chunks = append(s.chunks, &tuskvaultv1.ExportChunk{Kind: uint32(e.Kind), First: e.First, Last: e.Last, Data: append([]byte(nil), plain[:n]...), More: n < len(plain)})
		s.bytes += n
		plain = plain[n:]
	}
	return nil
}

func (s *chunkSender) flush(last bool) error {
	err := s.stream.Send(&tuskvaultv1.ExportResponse{Message: &tuskvaultv1.ExportResponse_Chunks{
		Chunks: &tuskvaultv1.ExportChunks{Sequence: s.sequence, Chunks: s.chunks, Last: last}}})
	s.chunks, s.bytes = nil, 0
	return err
}
