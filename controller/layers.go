package controller

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
)

// run runs all parts until ctx ends or one of them fails, then stops them in the
// reverse order of their starts: each layer has a context of its own that is
// canceled when the layer above it is gone.
func (w *wired) run(ctx context.Context) error {
	c := w.controller
	listener, err := rpc.Listen(ctx, c.config.Listen)
	if err != nil {
		return err
	}
	var failed failure
	recovered, loaded := make(chan struct{}), make(chan struct{})
	ctx = failed.watch(ctx)
	layers := [][]func(context.Context) error{
		{w.exporter.Run, c.logging.Run},
		{w.trail.Run, w.checker.Run, w.scrubber.Run, w.copies.Run, w.locks.Run, w.keyring.Run, w.eraser.Run, func(ctx context.Context) error {
			if err := w.manager.Recover(ctx); err != nil {
				return err
			}
			close(recovered)
			return w.manager.Run(ctx)
		}, func(ctx context.Context) error {
			// Which jobs use what is known once they are recovered.
			select {
			case <-recovered:
			case <-ctx.Done():
				return nil
			}
			return w.purger.Run(ctx)
		}},
		// These stop together: the hub ends sessions and the ingest ends uploads, so
		// that the server's calls return by themselves within its grace.
		{w.ingest.Run, w.hub.Run, w.authorizer.RunSweep, w.events.Run, func(ctx context.Context) error {
			// What an earlier process left is taken in before the first call.
			select {
			case <-recovered:
			case <-ctx.Done():
				return nil
			}
			if err := errors.Join(w.pruner.Load(ctx), w.ingest.Recover(ctx), w.marks.Load(ctx), w.distrust.Load(ctx)); err != nil {
				return err
			}
			close(loaded)
			w.nag(ctx)
			c.log.Info("serving", logging.Address(listener.Addr().String()), logging.Repository(w.repository.ID()), logging.Epoch(w.meta.Epoch))
			return rpc.Serve(ctx, w.server, listener, c.config.Grace)
		}},
		// It uses the ingest, and stops before that.
		{func(ctx context.Context) error {
			select {
			case <-loaded:
			case <-ctx.Done():
				return nil
			}
			return w.pruner.Run(ctx)
		}},
	}
	stop := startLayers(ctx, layers, &failed)
	<-ctx.Done()
	c.log.Info("stopping", zap.NamedError("reason", context.Cause(ctx)))
	defer func() { _ = listener.Close() }() // the server has closed it, unless it never served
	err = stop()
	if conflict, ok := errors.AsType[*repo.LogConflict](err); ok {
		return fmt.Errorf("export the catalog: %w", conflict) // whatever else failed, failed by that
	}
	return err
}

// failure ends everything at the first error.
type failure struct{ cancel context.CancelCauseFunc }

func (f *failure) watch(ctx context.Context) context.Context {
	ctx, f.cancel = context.WithCancelCause(ctx)
	return ctx
}

// startLayers starts the layers in order and gives what stops them in the
// reverse order and waits for each.
func startLayers(ctx context.Context, layers [][]func(context.Context) error, failed *failure) (stop func() error) {
	type running struct {
		cancel context.CancelFunc
		group  *errgroup.Group
	}
	var all []running
	for _, layer := range layers {
		// A layer outlives ctx until those above it have ended.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		g := new(errgroup.Group)
		for _, run := range layer {
			g.Go(func() error {
				err := run(own)
				if own.Err() != nil && errors.Is(err, context.Canceled) {
					err = nil
				}
				if err != nil {
					failed.cancel(err)
				}
				return err
			})
		}
		all = append(all, running{cancel, g})
	}
	return func() error {
		var err error
		for i := len(all) - 1; i >= 0; i-- {
			all[i].cancel()
			err = errors.Join(err, all[i].group.Wait())
		}
		return err
	}
}
