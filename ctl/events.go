package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) eventsCmd() *cobra.Command {
	req := &tuskvaultv1.WatchRequest{}
	var kinds []string
	var since int64
	c := &cobra.Command{Use: "events", Short: "What happened in the fleet lately, and what happens now", Args: cobra.NoArgs,
		Long: `Show the newest events of the fleet, of which the controller keeps 10,000 in
memory: jobs that are queued, leased, running and end, snapshots, and agents
that enroll, come and go. With --follow, go on with those that happen from now
on, also over a restart of the controller; --since goes on after the event of
that number, and says when some may be missing.

With -o json and --follow each line of standard output is one event, or
{"gap": {...}} where events may be missing.`,
		Example: `  tuskctl events --kind job-failed,job-lost
  tuskctl events --follow -l env=prod -o json | jq -r .message`,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if req.Kinds, err = eventKinds(kinds); err != nil {
				return err
			}
			if c.Flags().Changed("since") {
				req.After = &since
			}
			if req.GetFollow() {
				return a.followEvents(c.Context(), req)
			}
			return a.call(c, func(ctx context.Context, cl *client) error { return a.listEvents(ctx, cl, req) })
		}}
	f := c.Flags()
	f.BoolVarP(&req.Follow, "follow", "f", false, "go on with events as they happen")
	f.Int64Var(&since, "since", 0, "only events after the one of this number; with --follow, 0 begins with all there are")
	f.StringSliceVar(&kinds, "kind", nil, "only these kinds: "+strings.Join(kindNames(), ", ")+"; job, snapshot and agent mean all of theirs")
	f.StringVarP(&req.Selector, "selector", "l", "", "only of agents with these labels, for example env=prod,tier!=cache")
	f.BoolVar(&req.IncludeProgress, "progress", false, "with --follow, also how far running jobs are, every few seconds")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(append(kindNames(), "job", "snapshot", "agent"), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// kindName gives a kind as it is written here: "job-failed".
func kindName(k tuskvaultv1.EventKind) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(k.String(), "EVENT_KIND_")), "_", "-")
}

func kindNames() []string {
	var all []string
	for n := range tuskvaultv1.EventKind_name {
		if n != 0 {
			all = append(all, kindName(tuskvaultv1.EventKind(n)))
		}
	}
	slices.Sort(all)
	return all
}

// eventKinds reads kinds, or the first words of several.
func eventKinds(names []string) ([]tuskvaultv1.EventKind, error) {
	var all []tuskvaultv1.EventKind
	for _, name := range names {
		before := len(all)
		for n := range tuskvaultv1.EventKind_name {
			k := tuskvaultv1.EventKind(n)
			if n != 0 && (kindName(k) == name || strings.HasPrefix(kindName(k), name+"-")) {
				all = append(all, k)
			}
		}
		if len(all) == before {
			return nil, exit.WrongUsage(fmt.Errorf("--kind %q: want %s, job, snapshot or agent", name, strings.Join(kindNames(), ", ")))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// listEvents shows the events that there are.
func (a *app) listEvents(ctx context.Context, cl *client, req *tuskvaultv1.WatchRequest) error {
	t := &print.Table{Columns: []print.Column{{Head: "NUMBER"}, {Head: "TIME"}, {Head: "EVENT"}, {Head: "WHO"}, {Head: "JOB"}, {Head: "MESSAGE", Flex: true}, {Head: "SNAPSHOT", Wide: true}}}
	list := struct {
		Events []json.RawMessage `json:"events"`
	}{[]json.RawMessage{}}
	var names []string
	s, err := cl.event.Watch(ctx, req)
	for err == nil {
		var r *tuskvaultv1.WatchResponse
		if r, err = s.Recv(); err != nil {
			break
		}
		if g := r.GetGap(); g != nil {
			a.say("warning: events before number %d may be missing: %s", g.GetFirst(), g.GetReason())
			continue
		}
		e := r.GetEvent()
		var line strings.Builder
		if err = print.JSONLine(&line, e); err != nil {
			return err
		}
		list.Events = append(list.Events, json.RawMessage(line.String()))
		t.Row(fmt.Sprint(e.GetSequence()), print.Time(e.GetTime()), kindName(e.GetKind()), who(e), print.Short(e.GetJobId()), eventText(e), print.Short(e.GetSnapshotId()))
		names = append(names, fmt.Sprint(e.GetSequence()))
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("list events: %w", err)
	}
	return a.printer().Print(print.View{Object: list, Names: names, Table: t})
}

// followEvents shows events until it is interrupted. A controller that goes away
// is waited for as a job's is.
func (a *app) followEvents(ctx context.Context, req *tuskvaultv1.WatchRequest) error {
	cl, err := a.dial()
	if err != nil {
		return err
	}
	defer cl.close()
	lastHeard, waiting, heard := a.now(), false, false
	for {
		err := a.eventStream(ctx, cl, req, func() { lastHeard, waiting, heard = a.now(), false, true })
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how one leaves
		case errors.Is(err, errs.Exhausted):
			return exit.Hint(fmt.Errorf("follow events: %w", err), fmt.Sprintf("go on with what there is: tuskctl events --follow --since %d", req.GetAfter()))
		case !heard || err != nil && !errors.Is(err, errs.Unavailable):
			return fmt.Errorf("follow events: %w", err)
		case a.now().Sub(lastHeard) > patience:
			return fmt.Errorf("follow events: no controller for %s: %w", patience, errs.Unavailable)
		}
		if !waiting {
			a.say("waiting for the controller")
			waiting = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// eventStream shows the events of one stream. The request is kept at the last
// one that was shown, so that the next stream goes on there.
func (a *app) eventStream(ctx context.Context, cl *client, req *tuskvaultv1.WatchRequest, heard func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := cl.event.Watch(ctx, req)
	if err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the stream ended: %w", errs.Unavailable)
		} else if err != nil {
			return err
		}
		heard()
		if b := r.GetStart(); b != nil {
			req.After = new(b.GetAfter())
			continue
		}
		if err := a.showEvent(r); err != nil {
			return err
		}
		if e := r.GetEvent(); e != nil {
			req.After = new(e.GetSequence())
		}
	}
}

// showEvent prints one event on one line; a gap is said on standard error, and
// with -o json on its own line of the answer too.
func (a *app) showEvent(r *tuskvaultv1.WatchResponse) error {
	g, e := r.GetGap(), r.GetEvent()
	if g != nil {
		a.say("warning: events before number %d may be missing: %s", g.GetFirst(), g.GetReason())
	}
	switch print.Format(a.output) {
	case print.FormatJSON:
		if g != nil {
			return print.JSONLine(a.Out, r)
		}
		return print.JSONLine(a.Out, e)
	case print.FormatYAML:
		if _, err := io.WriteString(a.Out, "---\n"); err != nil {
			return err
		}
		if g != nil {
			return print.YAML(a.Out, r)
		}
		return print.YAML(a.Out, e)
	}
	if g != nil {
		return nil
	}
	if print.Format(a.output) == print.FormatName {
		_, err := fmt.Fprintln(a.Out, e.GetSequence())
		return err
	}
	_, err := fmt.Fprintf(a.Out, "%d  %s  %-18s  %-16s  %-8s  %s\n", e.GetSequence(), print.Time(e.GetTime()), kindName(e.GetKind()), who(e), print.Short(e.GetJobId()), eventText(e))
	return err
}

// who is the instance, or the agent where it is not about one.
func who(e *tuskvaultv1.Event) string {
	if e.GetInstance() != "" {
		return e.GetInstance()
	}
	return e.GetAgent()
}

// eventText says the rest of an event.
func eventText(e *tuskvaultv1.Event) string {
	var parts []string
	if e.GetJobId() != "" {
		parts = append(parts, jobKind(&tuskvaultv1.Job{Kind: e.GetJobKind(), DryRun: e.GetDryRun()}))
	}
	if e.GetMessage() != "" {
		parts = append(parts, e.GetMessage())
	}
	if e.GetProgress() != nil {
		j := progressOf(&tuskvaultv1.Job{State: tuskvaultv1.JobState_JOB_STATE_RUNNING, Progress: e.GetProgress()})
		parts = append(parts, j.Line())
	}
	return strings.Join(parts, ": ")
}
