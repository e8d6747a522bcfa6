package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

// following is something that runs in the controller, one at a time, and is
// followed by whoever wants to.
type following struct {
	// what it is called, also as a command of repo.
	what string
	// watch begins a stream and gives what receives from it.
	watch func(context.Context, *client) (receive func() (print.JobProgress, error), err error)
	// show prints it once it has ended, and ends with the exit code that it asks for.
	show func(*cobra.Command) error
}

// attach watches it to its end, then shows it.
func (a *app) attach(c *cobra.Command, f following) error {
	cl, err := a.dial()
	if err != nil {
		return err
	}
	defer cl.close()
	width, height := drawing(a.Err)
	watcher := print.NewProgress(a.Err, width, height, a.now)
	err = a.watchOver(c.Context(), cl, watcher, f)
	watcher.Close()
	if c.Context().Err() != nil {
		return exit.Hint(fmt.Errorf("%s: %w", f.what, errDetached), "attach again: tuskctl repo "+f.what+" --attach", "stop it: tuskctl repo "+f.what+" --cancel")
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.what, err)
	}
	return f.show(c)
}

// watchOver follows it for as long as the controller can be reached again within
// patience.
func (a *app) watchOver(ctx context.Context, cl *client, w *print.Progress, f following) error {
	heard := a.now()
	for {
		receive, err := f.watch(ctx, cl)
		for err == nil {
			var at print.JobProgress
			if at, err = receive(); err == nil {
				heard = a.now()
				w.Update(at)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil || !errors.Is(err, errs.Unavailable):
			return err
		case a.now().Sub(heard) > patience:
			return fmt.Errorf("no controller for %s, the %s may go on: %w", patience, f.what, errs.Unavailable)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}
