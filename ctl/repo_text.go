package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) checkText(r *tuskvaultv1.GetCheckResponse) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	c := r.GetCheck()
	of := ""
	if c.GetCopy() != "" {
		of = " of copy " + c.GetCopy()
	}
	line("check", "%s%s, %s, by %s, %s ago", c.GetId(), of, checkState(c), c.GetCreatedBy(), print.Ago(c.GetStartTime(), a.now()))
	line("looked at", "%s snapshots, %s packs with %s chunks", print.Count(c.GetSnapshots()), print.Count(c.GetPacks()), print.Count(c.GetChunks()))
	what := "compared with their hashes"
	if c.GetReadData() {
		what = "opened"
	}
	line("read", "%s packs, %s chunks %s, %s; sample %s%%, seed %d", print.Count(c.GetPacksRead()), print.Count(c.GetFramesRead()), what, print.Size(c.GetBytesRead()), percent(c.GetSampleMillionths()), c.GetSeed())
	if c.GetMessage() != "" {
		line("outcome", "%s", c.GetMessage())
	}
	for _, f := range r.GetFindings() {
		kind := f.GetProblem()
		if f.GetHarmless() {
			kind += " (harmless)"
		}
		line("finding", "%s: %s", kind, f.GetObject())
		line("", "  %s", f.GetDetail())
		if f.GetChunks() > 0 {
			line("", "  chunks: %s", print.Count(f.GetChunks()))
		}
		for _, e := range f.GetEffects() {
			line("", "  hurts %s", effectText(e))
		}
		if f.GetEffectsMore() > 0 {
			line("", "  hurts %s more", print.Count(f.GetEffectsMore()))
		}
	}
	if more := c.GetFindings() - int64(len(r.GetFindings())); more > 0 {
		line("", "and %s more findings", print.Count(more))
	}
	for _, s := range r.GetSnapshots() {
		how := fmt.Sprintf("%s tables, archives or sets of large objects", print.Count(s.GetObjects()))
		if s.GetWhole() {
			how = "all of it"
		}
		line("snapshot", "%s of %s is hurt: %s", s.GetSnapshotId(), s.GetInstance(), how)
	}
	if c.GetUntraced() > 0 {
		line("", "%s places of damaged chunks were not followed to their tables: there are too many", print.Count(c.GetUntraced()))
	}
	return b.String()
}

func effectText(e *tuskvaultv1.CheckEffect) string {
	s := fmt.Sprintf("snapshot %s of %s", print.Short(e.GetSnapshotId()), e.GetInstance())
	switch {
	case e.GetDatabase() == "":
		return s + ": all of it"
	case e.GetObject() == "":
		return s + ": database " + e.GetDatabase()
	}
	return s + ": database " + e.GetDatabase() + ", " + e.GetObject()
}

// percent gives millionths without needless digits.
func percent(millionths int32) string {
	s := fmt.Sprintf("%d.%04d", millionths/10_000, millionths%10_000)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func (a *app) repoStatsCmd() *cobra.Command {
	return &cobra.Command{Use: "stats", Short: "What is stored, by domain and by kind of object", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c, func(ctx context.Context, cl *client) error {
				r, err := cl.repository.GetRepositoryStats(ctx, &tuskvaultv1.GetRepositoryStatsRequest{})
				if err != nil {
					return err
				}
				var names []string
				for _, d := range r.GetDomains() {
					names = append(names, d.GetId())
				}
				return a.printer().Print(print.View{Message: r, Names: names, Text: statsText(r, a.now())})
			})
		}}
}

func statsText(r *tuskvaultv1.GetRepositoryStatsResponse, now time.Time) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("snapshots", "%s, standing for %s", print.Count(r.GetSnapshots()), print.Size(r.GetPlainBytes()))
	line("stored", "%s, %s of them chunks in %s packs", print.Size(r.GetStoredBytes()), print.Size(r.GetFrameBytes()), print.Count(r.GetPacks()))
	line("overhead", "%.3f bytes for each stored byte", r.GetOverhead())
	for _, d := range r.GetDomains() {
		instances := slices.Clone(d.GetInstances())
		if len(instances) > 3 {
			instances = append(instances[:3], fmt.Sprintf("%d more", len(d.GetInstances())-3))
		}
		line("domain", "%s (%s): %s snapshots, %s packs, %s, %s chunks, each used %.2f times; 1 byte stored for %.2f", print.Short(d.GetId()), strings.Join(instances, ", "),
			print.Count(d.GetSnapshots()), print.Count(d.GetPacks()), print.Size(d.GetPackBytes()), print.Count(d.GetChunks()), d.GetDedupFactor(), d.GetReduction())
	}
	if s := r.GetStore(); s != nil {
		line("store", "%s", storeText(s))
	}
	for _, c := range r.GetCopies() {
		line("copy", "%s", copyText(c, now))
	}
	for _, o := range r.GetObjects() {
		line("objects", "%-11s %s, %s", o.GetKind(), print.Count(o.GetObjects()), print.Size(o.GetBytes()))
	}
	return b.String()
}

// storeText says what a store can do beyond keeping objects, and what speaks against it.
func storeText(s *tuskvaultv1.StoreFeatures) string {
	can := []string{"creates decided by the store"}
	if !s.GetAtomicCreate() {
		can[0] = "creates not decided by the store"
	}
	if s.GetVersions() {
		can = append(can, "keeps versions")
	}
	if s.GetLock() != "" {
		can = append(can, "locks new objects ("+s.GetLock()+")")
	}
	if s.GetEncryption() != "" {
		can = append(can, "encrypts by "+s.GetEncryption())
	}
	if s.GetStorageClass() != "" {
		can = append(can, "class "+s.GetStorageClass())
	}
	if s.GetSeparateDeletes() {
		can = append(can, "deletes by other credentials")
	}
	text := s.GetLocation() + ": " + strings.Join(can, ", ")
	for _, w := range s.GetWarnings() {
		text += "; warning: " + w
	}
	return text
}

// copyText says how far a copy is.
func copyText(c *tuskvaultv1.CopyStatus, now time.Time) string {
	state := strings.ToLower(strings.TrimPrefix(c.GetState().String(), "COPY_STATE_"))
	text := fmt.Sprintf("%s (%s): %s", c.GetName(), c.GetStore(), state)
	if c.GetStore() == "" {
		text = fmt.Sprintf("%s: %s", c.GetName(), state)
	}
	if c.GetObjectsWaiting() > 0 {
		text += fmt.Sprintf(", %s objects (%s) wait", print.Count(c.GetObjectsWaiting()), print.Size(c.GetBytesWaiting()))
	}
	if lag := c.GetLag().AsDuration(); lag > 0 {
		text += fmt.Sprintf(", lag %s", lag.Round(time.Second))
	}
	if c.GetLate() {
		text += fmt.Sprintf(" (late: at most %s)", c.GetMaxLag().AsDuration())
	}
	if c.GetCompareTime() != nil {
		text += fmt.Sprintf(", compared %s ago", print.Ago(c.GetCompareTime(), now))
	}
	if n := c.GetStrays(); n > 0 {
		text += fmt.Sprintf(", %s in it alone", print.Count(n))
	}
	if n := c.GetLeftOut(); n > 0 {
		text += fmt.Sprintf(", %s damaged and left out", print.Count(n))
	}
	if c.GetReads() > 0 || c.GetHealed() > 0 {
		text += fmt.Sprintf(", %s reads, %s healed", print.Count(c.GetReads()), print.Count(c.GetHealed()))
	}
	if c.GetProblem() != "" {
		text += ": " + c.GetProblem()
	}
	return text
}
