package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) jobCmd() *cobra.Command {
	c := &cobra.Command{Use: "job", Aliases: []string{"jobs"}, Short: "What is running, waiting or done"}
	watch := &cobra.Command{Use: "watch JOB", Short: "Follow a job to its end and exit with its exit code", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			var job *tuskvaultv1.Job
			err := a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.job.GetJob(ctx, &tuskvaultv1.GetJobRequest{Job: args[0]})
				job = r.GetJob()
				return hintNotFound(err, `run "tuskctl job ls"`)
			})
			if err != nil {
				return err
			}
			return a.waitAll(c.Context(), []*tuskvaultv1.Job{job})
		}}
	c.AddCommand(a.jobListCmd(), a.jobShowCmd(), watch, a.jobCancelCmd(), a.jobLogsCmd())
	return c
}

func (a *app) jobListCmd() *cobra.Command {
	var instance string
	var states []string
	var limit int
	c := &cobra.Command{Use: "ls", Short: "List jobs, newest first", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		req := &tuskvaultv1.ListJobsRequest{Instance: instance}
		for _, s := range states {
			v, ok := tuskvaultv1.JobState_value["JOB_STATE_"+strings.ToUpper(s)]
			if !ok || v == 0 {
				return exit.WrongUsage(fmt.Errorf("--state %q: want queued, leased, running, committing, succeeded, failed, canceled or lost", s))
			}
			req.States = append(req.States, tuskvaultv1.JobState(v))
		}
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := upTo(ctx, a, limit, func(r *tuskvaultv1.ListJobsResponse) int { return len(r.GetJobs()) },
				func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListJobsResponse, error) {
					req.Page = p
					return cl.job.ListJobs(ctx, req)
				})
			if err != nil {
				return hintNotFound(err, `run "tuskctl instance ls"`)
			}
			t := &print.Table{Columns: []print.Column{{Head: "ID"}, {Head: "KIND"}, {Head: "INSTANCE", Flex: true}, {Head: "STATE"}, {Head: "AGE"}, {Head: "TOOK"}, {Head: "MESSAGE", Flex: true}, {Head: "SNAPSHOT", Wide: true}, {Head: "CREATED BY", Wide: true}, {Head: "FULL ID", Wide: true}}}
			var names []string
			for _, j := range r.GetJobs() {
				t.Row(print.Short(j.GetId()), jobKind(j), j.GetInstance(), jobState(j), print.Ago(j.GetCreateTime(), a.now()), took(j, a.now()), j.GetMessage(), print.Short(j.GetSnapshotId()), j.GetCreatedBy(), j.GetId())
				names = append(names, j.GetId())
			}
			return a.printer().Print(print.View{Message: r, Names: names, Table: t})
		})
	}}
	c.Flags().StringVar(&instance, "instance", "", "only jobs of this instance")
	c.Flags().StringSliceVar(&states, "state", nil, "only jobs in these states")
	c.Flags().IntVar(&limit, "limit", 200, "largest number of rows")
	return c
}

func jobKind(j *tuskvaultv1.Job) string {
	s := strings.ToLower(strings.TrimPrefix(j.GetKind().String(), "JOB_KIND_"))
	if j.GetDryRun() {
		s += " (dry run)"
	}
	return s
}

func jobState(j *tuskvaultv1.Job) string {
	s := strings.ToLower(strings.TrimPrefix(j.GetState().String(), "JOB_STATE_"))
	if j.GetCancelRequested() && !terminal(j) {
		s += " (canceling)"
	}
	return s
}

func terminal(j *tuskvaultv1.Job) bool {
	switch j.GetState() {
	case tuskvaultv1.JobState_JOB_STATE_SUCCEEDED, tuskvaultv1.JobState_JOB_STATE_FAILED,
		tuskvaultv1.JobState_JOB_STATE_CANCELED, tuskvaultv1.JobState_JOB_STATE_LOST:
		return true
	}
	return false
}

func took(j *tuskvaultv1.Job, now time.Time) string {
	if j.GetStartTime() == nil {
		return ""
	}
	end := now
	if j.GetEndTime() != nil {
		end = j.GetEndTime().AsTime()
	}
	return print.Span(end.Sub(j.GetStartTime().AsTime()))
}

func (a *app) jobShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show JOB", Short: "Show a job, its attempts and what it did", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.job.GetJob(ctx, &tuskvaultv1.GetJobRequest{Job: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl job ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetJob().GetId()}, Text: a.jobText(r.GetJob())})
			})
		}}
}

func (a *app) jobText(j *tuskvaultv1.Job) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("job", "%s, %s on %s, by %s, %s ago", j.GetId(), jobKind(j), j.GetInstance(), j.GetCreatedBy(), print.Ago(j.GetCreateTime(), a.now()))
	line("state", "%s %s", jobState(j), j.GetMessage())
	if j.GetNextAttemptTime() != nil && !terminal(j) {
		line("next attempt", "%s", print.Time(j.GetNextAttemptTime()))
	}
	if j.GetSnapshotId() != "" {
		line("snapshot", "%s", j.GetSnapshotId())
	}
	b.WriteString(placementText(j))
	for _, t := range j.GetAttempts() {
		line("attempt", "%d.%d on %s: %s, %s %s", t.GetRef().GetEpoch(), t.GetRef().GetCounter(), t.GetAgent(), t.GetState(), print.Time(t.GetStartTime()), t.GetError())
	}
	if p := j.GetProgress(); p != nil && !terminal(j) {
		for _, d := range p.GetDatabases() {
			line("progress", "%s: %s, %s rows, %s", d.GetDatabase(), d.GetPhase(), print.Count(d.GetRowsDone()), print.Size(d.GetBytesDone()))
			for _, t := range d.GetTables() {
				line("", "%s", busyOf(t))
			}
		}
		if rate := p.GetBytesPerSecond(); rate > 0 {
			left := ""
			if s := p.GetSecondsLeft(); s > 0 {
				left = ", about " + print.Span(time.Duration(s)*time.Second) + " left"
			}
			line("rate", "%s/s%s", print.Size(rate), left)
		}
		for _, s := range p.GetBlocked() {
			line("blocked", "%s", s)
		}
	}
	b.WriteString(a.resultText(j))
	return b.String()
}

// resultText says what a job did: figures, databases, problems, plan.
func (a *app) resultText(j *tuskvaultv1.Job) string {
	r := j.GetResult()
	if r == nil {
		return ""
	}
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	// A plan that led to something is in the job's log. What it says against the
	// restore is not said twice.
	told := j.GetDryRun() && len(r.GetPlan()) > 0
	if len(r.GetDatabases()) == 0 {
		for _, p := range r.GetPlan() {
			fmt.Fprintln(&b, p)
			told = told || strings.HasPrefix(p, "refused: ")
		}
	}
	if s := r.GetStats(); s != nil && !j.GetDryRun() {
		chunks := ""
		if j.GetKind() == tuskvaultv1.JobKind_JOB_KIND_BACKUP {
			chunks = fmt.Sprintf("%s of %s chunks new; ", print.Count(s.GetNewChunks()), print.Count(s.GetChunks()))
		}
		line("moved", "%s rows, %s; %s%s over the wire; agent's peak memory %s", print.Count(s.GetRows()), print.Size(s.GetPlainBytes()), chunks,
			print.Size(s.GetTransferredBytes()), print.Size(s.GetPeakMemoryBytes()))
	}
	if d := r.GetDrill(); d != nil {
		b.WriteString(a.drillText(d, true))
	}
	for _, d := range r.GetDatabases() {
		if j.GetKind() == tuskvaultv1.JobKind_JOB_KIND_DRILL {
			break // the report has them
		}
		name, state := d.GetDatabase(), "complete"
		if d.GetTarget() != "" && d.GetTarget() != name {
			name += " as " + d.GetTarget()
		}
		if !d.GetComplete() && d.GetError() == "" {
			state = "incomplete: tables were left empty" + comparedText(d)
		} else if !d.GetComplete() {
			state = "failed: " + d.GetError()
		} else {
			state += comparedText(d)
		}
		line("database", "%s: %s; %s tables, %s rows, %s in %s", name, state, print.Count(d.GetTables()), print.Count(d.GetRows()), print.Size(d.GetPlainBytes()), d.GetDuration().AsDuration().Round(100*time.Millisecond))
	}
	for _, p := range r.GetProblems() {
		if !told {
			line("problem", "%s", problemText(p))
		}
	}
	return b.String()
}

// comparedText says how the tables of a restored database were compared.
func comparedText(d *tuskvaultv1.DatabaseResult) string {
	var b strings.Builder
	if n := d.GetTablesCompared(); n > 0 {
		fmt.Fprintf(&b, ", %s tables equal on the way in", print.Count(n))
	}
	if n := d.GetTablesVerified(); n > 0 {
		fmt.Fprintf(&b, ", %s tables read back and equal", print.Count(n))
	}
	return b.String()
}

func (a *app) jobCancelCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "cancel JOB", Short: "Ask a job to stop", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs, RunE: func(c *cobra.Command, args []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := cl.job.CancelJob(ctx, &tuskvaultv1.CancelJobRequest{Job: args[0], Reason: reason})
			if err != nil {
				return hintNotFound(err, `run "tuskctl job ls"`)
			}
			return a.printer().Print(print.View{Message: r, Names: []string{r.GetJob().GetId()}, Text: r.GetJob().GetId() + " " + jobState(r.GetJob()) + "\n"})
		})
	}}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail")
	return c
}

func (a *app) jobLogsCmd() *cobra.Command {
	return &cobra.Command{Use: "logs JOB", Short: "Show the agent's log lines of a job", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs, RunE: func(c *cobra.Command, args []string) error {
		return a.call(c, func(ctx context.Context, cl *client) error {
			r, err := all(ctx, a, func(r *tuskvaultv1.ListJobLogsResponse) int { return len(r.GetLines()) },
				func(ctx context.Context, p *tuskvaultv1.PageRequest) (*tuskvaultv1.ListJobLogsResponse, error) {
					return cl.job.ListJobLogs(ctx, &tuskvaultv1.ListJobLogsRequest{Job: args[0], Page: p})
				})
			if err != nil {
				return hintNotFound(err, `run "tuskctl job ls"`)
			}
			var b strings.Builder
			var names []string
			for _, l := range r.GetLines() {
				fmt.Fprintf(&b, "%s  %-5s  %s\n", print.Time(l.GetTime()), l.GetLevel(), l.GetMessage())
				names = append(names, l.GetMessage())
			}
			return a.printer().Print(print.View{Message: r, Names: names, Text: b.String()})
		})
	}}
}

func (a *app) logLevelCmd() *cobra.Command {
	var agent string
	c := &cobra.Command{Use: "log-level LEVEL", Short: "Change the log level of the controller, or of an agent, until it restarts", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.fleet.SetLogLevel(ctx, &tuskvaultv1.SetLogLevelRequest{Agent: agent, Level: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl agent ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{args[0]}})
			})
		}}
	c.Flags().StringVar(&agent, "agent", "", "agent instead of the controller")
	return c
}
