package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "The fleet on one screen: what is protected, what is late, what is running, what to do",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				s, err := cl.status.GetStatus(ctx, &tuskvaultv1.GetStatusRequest{})
				if err != nil {
					return err
				}
				p := a.printer()
				return p.Print(print.View{Message: s, Names: []string{s.GetName()}, Text: a.statusText(p, s)})
			})
		},
	}
}

func (a *app) statusText(p *print.Printer, s *tuskvaultv1.GetStatusResponse) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("controller", "%s, version %s, up %s, epoch %d", s.GetName(), s.GetBuild().GetVersion(), print.Ago(s.GetStartTime(), a.now()), s.GetEpoch())
	line("repository", "%s on %s", print.Short(s.GetRepositoryId()), s.GetStore())
	line("agents", "%d online, %d offline", s.GetAgentsOnline(), s.GetAgentsOffline())
	protected := fmt.Sprintf("%d of %d with a complete snapshot", s.GetInstances()-s.GetInstancesUnprotected(), s.GetInstances())
	if s.GetInstancesUnprotected() > 0 {
		protected = p.Paint(print.Yellow, protected)
	}
	line("instances", "%s", protected)
	line("snapshots", "%s, standing for %s, kept in %s", print.Count(s.GetSnapshots()), print.Size(s.GetPlainBytes()), print.Size(s.GetStoredBytes()))
	failed := fmt.Sprintf("%d failed in 24 h", s.GetJobsFailedRecently())
	if s.GetJobsFailedRecently() > 0 {
		failed = p.Paint(print.Red, failed)
	}
	line("jobs", "%d active, %s", s.GetJobsActive(), failed)
	if h := s.GetRepositoryHealth(); h != nil {
		line("health", "%s", a.healthText(p, h))
	}
	for _, c := range s.GetCopies() {
		text := copyText(c, a.now())
		if c.GetLate() || c.GetStrays() > 0 || c.GetLeftOut() > 0 || c.GetState() == tuskvaultv1.CopyState_COPY_STATE_REFUSED {
			text = p.Paint(print.Red, text)
		}
		line("copy", "%s", text)
	}
	if len(s.GetNotices()) == 0 {
		b.WriteString("\n" + p.Paint(print.Green, "nothing to do") + "\n")
		return b.String()
	}
	b.WriteString("\nto do:\n")
	for _, n := range s.GetNotices() {
		mark, color := "warning", print.Yellow
		if n.GetSeverity() == tuskvaultv1.Severity_SEVERITY_ERROR {
			mark, color = "error", print.Red
		}
		fmt.Fprintf(&b, "  %s  %s\n", p.Paint(color, mark), n.GetMessage())
		if n.GetHint() != "" {
			fmt.Fprintf(&b, "           %s\n", n.GetHint())
		}
	}
	return b.String()
}

// healthText says when the repository was last looked at, and what was found.
func (a *app) healthText(p *print.Printer, h *tuskvaultv1.RepositoryHealth) string {
	check := "never checked"
	switch h.GetCheckState() {
	case "":
	case "running":
		check = "being checked for " + print.Ago(h.GetCheckTime(), a.now())
	default:
		check = "checked " + print.Ago(h.GetCheckTime(), a.now()) + " ago: " + h.GetCheckState()
	}
	if h.GetCheckCopy() != "" {
		check = "copy " + h.GetCheckCopy() + " " + check
	}
	scrub := "never scrubbed whole"
	if h.GetScrubCompleteTime() != nil {
		scrub = "scrubbed whole " + print.Ago(h.GetScrubCompleteTime(), a.now()) + " ago"
	}
	if h.GetScrubStartTime() != nil {
		scrub += fmt.Sprintf(", %s packs (%s) of a round read", print.Count(h.GetScrubPacks()), print.Size(h.GetScrubBytes()))
	}
	text := check + "; " + scrub
	if n := h.GetCondemnedBytes(); n > 0 {
		text += fmt.Sprintf("; %s condemned %s ago wait to be deleted", print.Size(n), print.Ago(h.GetCondemnedTime(), a.now()))
	}
	if n := h.GetDamagedPacks(); n > 0 {
		return p.Paint(print.Red, fmt.Sprintf("%s; %s damaged packs", text, print.Count(n)))
	}
	return text
}
