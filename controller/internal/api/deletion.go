package api

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// deletionService is DeletionService.
type deletionService struct {
	tuskvaultv1.UnimplementedDeletionServiceServer
	deps Deps
}

// GetDeletion tells why deletion is paused, if it is.
func (s *deletionService) GetDeletion(ctx context.Context, _ *tuskvaultv1.GetDeletionRequest) (*tuskvaultv1.GetDeletionResponse, error) {
	var open []catalog.Pause
	err := s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) { open, err = tx.OpenPauses(); return err })
	if err != nil {
		return nil, fmt.Errorf("look at deletion: %w", err)
	}
	return &tuskvaultv1.GetDeletionResponse{Pauses: toPauses(open)}, nil
}

// ResumeDeletion ends every pause, in one synchronous transaction with its audit
// records: what is deleted after it was allowed must stay allowed.
func (s *deletionService) ResumeDeletion(ctx context.Context, _ *tuskvaultv1.ResumeDeletionRequest) (*tuskvaultv1.ResumeDeletionResponse, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	var decided []catalog.Pause
	err = s.deps.Catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) (err error) {
		if decided, err = tx.ResumeDeletion(c.String()); err != nil {
			return err
		}
		for _, p := range decided {
			if err := s.deps.Trail.Append(tx, record(c, "deletion.resume", "repository "+s.deps.Facts.Repository.String(), p.Reason)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("resume deletion: %w", err)
	}
	if len(decided) > 0 {
		s.deps.Events.Publish(event.Event{Kind: event.DeletionChanged, Message: "resumed by " + c.String() + "; it was paused: " + catalog.Reasons(decided)})
	}
	return &tuskvaultv1.ResumeDeletionResponse{Pauses: toPauses(decided)}, nil
}

func toPauses(pauses []catalog.Pause) (out []*tuskvaultv1.DeletionPause) {
	for _, p := range pauses {
		out = append(out, &tuskvaultv1.DeletionPause{Kind: string(p.Kind), Reason: p.Reason, SinceTime: toTime(p.Since), Subject: p.Subject})
	}
	return out
}
