package ctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) snapshotForgetCmd() *cobra.Command {
	req := &tuskvaultv1.ForgetSnapshotsRequest{}
	var yes bool
	c := &cobra.Command{Use: "forget SNAPSHOT…", Short: "Let snapshots go, after a delay in which unforget brings them back",
		Long: `Lets snapshots go, all of those named or none. They stay in the store, and can
be restored, until the controller's delete.delay is over (72 hours unless its
file says otherwise): until then tuskctl snapshot unforget brings them back.

The last complete snapshot of a database, and the last verified one, are
forgotten only with --allow-last and the full name of their instance.`,
		Example: `  tuskctl snapshot forget 1f3a 77c0 --reason "test data"
  tuskctl snapshot forget 1f3a --allow-last db1/main --yes`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			req.Snapshots = args
			what := "forget " + counted(len(args), "snapshot", "snapshots")
			if req.GetAllowLast() != "" {
				what += ", even the last one of " + req.GetAllowLast()
			}
			if err := a.confirm(yes, what); err != nil {
				return err
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.snapshot.ForgetSnapshots(ctx, req)
				if err != nil {
					return hintForget(err)
				}
				return a.printChanged(r, r.GetSnapshots())
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	c.Flags().StringVar(&req.AllowLast, "allow-last", "", "`INSTANCE` of which even the last snapshot of a database may be forgotten, by its full name")
	return c
}

// hintForget says what mends a refusal to forget.
func hintForget(err error) error {
	switch text := err.Error(); {
	case !errors.Is(err, errs.Conflict):
		return hintNotFound(err, `run "tuskctl snapshot ls"`)
	case strings.Contains(text, "is held until"):
		return exit.Hint(err, `end the hold first: tuskctl snapshot release SNAPSHOT`)
	case strings.Contains(text, "the last complete") || strings.Contains(text, "the last verified") || strings.Contains(text, "may be the last"):
		return exit.Hint(err, `make and verify another one first: tuskctl backup INSTANCE --wait`, `or say that you mean it: --allow-last INSTANCE`)
	}
	return hintNotFound(err, `run "tuskctl snapshot ls"`)
}

func (a *app) snapshotUnforgetCmd() *cobra.Command {
	return &cobra.Command{Use: "unforget SNAPSHOT…", Short: "Keep snapshots that were forgotten and are not purged yet", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.snapshot.UnforgetSnapshots(ctx, &tuskvaultv1.UnforgetSnapshotsRequest{Snapshots: args})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls"`)
				}
				return a.printChanged(r, r.GetSnapshots())
			})
		}}
}

func (a *app) snapshotHoldCmd() *cobra.Command {
	var until, reason string
	c := &cobra.Command{Use: "hold SNAPSHOT", Short: "Keep a snapshot until a time, whatever else is said of it",
		Long: `Keeps a snapshot until a time: it cannot be forgotten, and a forgotten one is
not purged. A hold is made longer by another one, and shorter by nothing but
tuskctl snapshot release.`,
		Example: `  tuskctl snapshot hold latest:db1/main --until 90d --reason "before the migration"
  tuskctl snapshot hold 1f3a --until 2027-03-31 --reason "audit of the year"`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			at, err := parseUntil(until, a.now())
			if err != nil {
				return exit.WrongUsage(err)
			}
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.snapshot.HoldSnapshot(ctx, &tuskvaultv1.HoldSnapshotRequest{Snapshot: args[0], UntilTime: timestamppb.New(at), Reason: reason})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls"`)
				}
				return a.printChanged(r, []*tuskvaultv1.Snapshot{r.GetSnapshot()})
			})
		}}
	c.Flags().StringVar(&until, "until", "", "until when: 90d, 12w, 36h, 2027-03-31 or 2027-03-31T18:00:00Z")
	c.Flags().StringVar(&reason, "reason", "", "why")
	_ = c.MarkFlagRequired("until")
	_ = c.MarkFlagRequired("reason")
	return c
}

func (a *app) snapshotReleaseCmd() *cobra.Command {
	return &cobra.Command{Use: "release SNAPSHOT", Short: "End a hold", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.snapshot.ReleaseSnapshot(ctx, &tuskvaultv1.ReleaseSnapshotRequest{Snapshot: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl snapshot ls"`)
				}
				return a.printChanged(r, []*tuskvaultv1.Snapshot{r.GetSnapshot()})
			})
		}}
}

// parseUntil reads a duration from now, with days and weeks, a date, which means
// its end in UTC, or a time.
func parseUntil(text string, now time.Time) (time.Time, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			if n, err := strconv.Atoi(number); err == nil && n > 0 && n <= 36600 {
				return now.Add(time.Duration(n) * length), nil
			}
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("--until %q: want a time to go such as 90d, 12w or 36h, a date such as 2027-03-31, or a time such as 2027-03-31T18:00:00Z", text)
}

// printChanged says how each snapshot stands now.
func (a *app) printChanged(m proto.Message, snapshots []*tuskvaultv1.Snapshot) error {
	var names []string
	var text strings.Builder
	for _, s := range snapshots {
		names = append(names, s.GetId())
		fmt.Fprintf(&text, "snapshot %s of %s: %s\n", print.Short(s.GetId()), s.GetInstance(), a.stateText(s))
	}
	return a.printer().Print(print.View{Message: m, Names: names, Text: text.String()})
}

// stateText says in short how a snapshot stands: "complete", "complete, forgotten,
// purge in 71h", "incomplete, held until 2027-03-31".
func (a *app) stateText(s *tuskvaultv1.Snapshot) string {
	parts := []string{completeness(s.GetComplete())}
	h, f := s.GetHold(), s.GetForgotten()
	switch {
	case s.GetPurgeTime() != nil:
		parts = append(parts, "being purged")
	case f != nil && h != nil:
		parts = append(parts, "forgotten")
	case f != nil:
		when := "now"
		switch left := f.GetPurgeAfterTime().AsTime().Sub(a.now()); {
		case left >= 100*time.Hour:
			when = "in " + print.Span(left)
		case left >= time.Hour: // in days it would be too coarse to act by
			when = fmt.Sprintf("in %dh", int(left/time.Hour))
		case left > 0:
			when = "in " + print.Span(left)
		}
		parts = append(parts, "forgotten", "purge "+when)
	}
	if h != nil {
		parts = append(parts, "held until "+h.GetUntilTime().AsTime().UTC().Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

// counted gives a number with its noun.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// warn says what an answer warns of.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		a.say("warning: %s", w)
	}
}
