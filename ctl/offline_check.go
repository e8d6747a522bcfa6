package ctl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/offline"
)

func (a *app) offlineCheckCmd(f *offlineFlags) *cobra.Command {
	var readData bool
	var sample string
	c := &cobra.Command{Use: "check", Short: "Find what is damaged, and the snapshots, databases and tables that it hurts", Args: cobra.NoArgs,
		Long: `Check that every snapshot can be read and that every chunk it names is in a pack.
With --read-data the packs themselves are read, or a sample of them, and their
chunks opened. The exit code is 7 when something is damaged.`,
		RunE: func(c *cobra.Command, _ []string) error {
			o := check.Options{ReadData: readData}
			if readData {
				n, err := parseSample(sample)
				if err != nil {
					return exit.WrongUsage(err)
				}
				o.Sample = n
			} else if c.Flags().Changed("sample") {
				return exit.WrongUsage(errors.New("--sample goes with --read-data"))
			}
			return f.open(c.Context(), func(r *offline.Reader) error {
				last := ""
				o.Progress = func(p check.Progress) {
					if phase := string(p.Phase); phase != last {
						last = phase
						a.say("%s  check: %s, %s packs", a.now().Local().Format("15:04:05"), phase, print.Count(p.PacksChecked))
					}
				}
				report, err := r.Check(c.Context(), o)
				if err != nil {
					return err
				}
				var names []string
				for _, f := range report.Findings {
					names = append(names, f.Object)
				}
				if err := a.printer().Print(print.View{Object: toCheckView(report), Names: names, Text: offlineCheckText(report)}); err != nil {
					return err
				}
				if report.Damaged() {
					return fmt.Errorf("check: %s: %w", report.Summary(), errs.Corrupt)
				}
				return nil
			})
		}}
	c.Flags().BoolVar(&readData, "read-data", false, "read packs and open their chunks")
	c.Flags().StringVar(&sample, "sample", "100%", "part of the packs to read, for example 5% or 0.5%")
	return c
}

// parseSample reads a percentage as millionths.
func parseSample(text string) (int, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || !(n > 0 && n <= 100) {
		return 0, fmt.Errorf("--sample %q: want a percentage above 0%% and up to 100%%", text)
	}
	return max(1, int(n*check.Whole/100)), nil
}

// checkView is a report as json and yaml give it.
type checkView struct {
	Damaged          bool          `json:"damaged"`
	Summary          string        `json:"summary"`
	ReadData         bool          `json:"read_data"`
	SampleMillionths int           `json:"sample_millionths"`
	Seed             uint64        `json:"seed"`
	Snapshots        int64         `json:"snapshots"`
	Packs            int64         `json:"packs"`
	Chunks           int64         `json:"chunks"`
	PacksRead        int64         `json:"packs_read"`
	BytesRead        int64         `json:"bytes_read"`
	Findings         []findingView `json:"findings"`
	FindingsMore     int64         `json:"findings_more"`
	HurtSnapshots    []hurtView    `json:"hurt_snapshots"`
	HurtMore         int64         `json:"hurt_snapshots_more"`
}

type findingView struct {
	Object      string       `json:"object"`
	Problem     string       `json:"problem"`
	Detail      string       `json:"detail"`
	Harmless    bool         `json:"harmless"`
	Chunks      int64        `json:"chunks"`
	Effects     []effectView `json:"effects"`
	EffectsMore int64        `json:"effects_more"`
}

type effectView struct {
	Snapshot string `json:"snapshot_id"`
	Instance string `json:"instance"`
	Database string `json:"database"`
	Object   string `json:"object"`
}

type hurtView struct {
	Snapshot string `json:"snapshot_id"`
	Instance string `json:"instance"`
	Whole    bool   `json:"whole"`
	Objects  int64  `json:"objects"`
}

func toCheckView(r *check.Report) checkView {
	v := checkView{Damaged: r.Damaged(), Summary: r.Summary(), ReadData: r.ReadData, SampleMillionths: r.Sample, Seed: r.Seed, Snapshots: r.SnapshotsChecked, Packs: r.PacksChecked,
		Chunks: r.ChunksChecked, PacksRead: r.PacksRead, BytesRead: r.BytesRead, Findings: []findingView{}, FindingsMore: r.FindingsMore, HurtSnapshots: []hurtView{}, HurtMore: r.SnapshotsMore}
	for _, f := range r.Findings {
		out := findingView{Object: f.Object, Problem: string(f.Problem), Detail: f.Detail, Harmless: f.Harmless, Chunks: f.Chunks, Effects: []effectView{}, EffectsMore: f.EffectsMore}
		for _, e := range f.Effects {
			out.Effects = append(out.Effects, effectView{e.Snapshot.String(), e.Instance.String(), e.Database, e.Object})
		}
		v.Findings = append(v.Findings, out)
	}
	for _, s := range r.Snapshots {
		v.HurtSnapshots = append(v.HurtSnapshots, hurtView{s.Snapshot.String(), s.Instance.String(), s.Whole, s.Objects})
	}
	return v
}

func offlineCheckText(r *check.Report) string {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", head, fmt.Sprintf(format, args...))
	}
	line("checked", "%s snapshots, %s packs with %s chunks", print.Count(r.SnapshotsChecked), print.Count(r.PacksChecked), print.Count(r.ChunksChecked))
	if r.ReadData {
		line("read", "%s packs, %s", print.Count(r.PacksRead), print.Size(r.BytesRead))
	}
	line("outcome", "%s", r.Summary())
	for _, f := range r.Findings {
		kind := string(f.Problem)
		if f.Harmless {
			kind += " (harmless)"
		}
		line("finding", "%s: %s: %s", kind, f.Object, f.Detail)
		for _, e := range f.Effects {
			what := "all of it"
			switch {
			case e.Object != "":
				what = "database " + e.Database + ", " + e.Object
			case e.Database != "":
				what = "database " + e.Database
			}
			line("", "  hurts snapshot %s of instance %s: %s", e.Snapshot.Short(), e.Instance.Short(), what)
		}
		if f.EffectsMore > 0 {
			line("", "  hurts %s more", print.Count(f.EffectsMore))
		}
	}
	if r.FindingsMore > 0 {
		line("", "and %s more findings", print.Count(r.FindingsMore))
	}
	for _, s := range r.Snapshots {
		how := fmt.Sprintf("%s tables, archives or sets of large objects", print.Count(s.Objects))
		if s.Whole {
			how = "all of it"
		}
		line("snapshot", "%s of instance %s is hurt: %s", s.Snapshot, s.Instance.Short(), how)
	}
	return b.String()
}
