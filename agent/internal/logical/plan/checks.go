package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// check judges what may go wrong beyond what the plan itself needs. Only what is
// certain to fail is refused: who restores may have no better server, and nobody
// could overrule a plan that is too careful.
func (p *Plan) check(content *repo.Content, needs map[*repo.Database]*Needs) {
	p.checkVersions(needs)
	p.checkExtensions(needs)
	p.checkLocales(needs)
	p.checkCollations()
	p.checkEventTriggers(needs)
	p.checkSessions()
	p.checkLocks(needs)
	p.checkDirectories()
	sizes := p.sizes()
	p.checkDisk(sizes)
	p.checkWAL(sizes)
	if p.Target.Settings.ReadOnly {
		p.warn("", "default_transaction_read_only", "transactions on this server are read-only unless they say otherwise: the restore does, and writes all the same",
			"if nothing should be written here, restore to another instance")
	}
}

// unchecked notes what could not be looked at.
func (p *Plan) unchecked(object, reason, hint string) {
	p.Unchecked = append(p.Unchecked, repo.Problem{Severity: "warning", Object: object, Reason: reason, Hint: hint})
}

// verdicts words refusals, then warnings, then what was not checked.
func (p *Plan) verdicts() []string {
	var all []string
	say := func(what string, list []repo.Problem) {
		for _, x := range list {
			all = append(all, what+": "+describe(x))
			if x.Hint != "" {
				all = append(all, "  hint: "+x.Hint)
			}
		}
	}
	say("refused", p.Refusals)
	say("warning", p.Warnings)
	say("not checked", p.Unchecked)
	return all
}

// mostTold bounds the lines of a plan in a job's log: the result has all of them.
const mostTold = 200

// Tell writes the plan to a job's log, in the words of a dry run.
func (p *Plan) Tell(log func(level, line string)) {
	lines := p.Lines()
	for _, l := range lines[:min(len(lines), mostTold)] {
		level := "info"
		switch {
		case strings.HasPrefix(l, "refused: "):
			level = "error"
		case strings.HasPrefix(l, "warning: "):
			level = "warn"
		}
		log(level, l)
	}
	if n := len(lines) - mostTold; n > 0 {
		log("info", fmt.Sprintf("and %d more lines of the plan, which the job's result has", n))
	}
}

// time words the estimate of how long it will take.
func (p *Plan) time() string {
	rate, n := p.Request.PastBytesPerSecond, p.Request.PastRestores
	if rate <= 0 || n <= 0 {
		return "time: no past restore to estimate from"
	}
	var bytes int64
	for i := range p.Databases {
		bytes += p.Databases[i].Bytes
	}
	what := "past restores"
	if n == 1 {
		what = "past restore"
	}
	return fmt.Sprintf("time: about %s, by %d %s at %s/s", span(time.Duration(float64(bytes)/float64(rate)*float64(time.Second))), n, what, size(rate))
}

// span words a duration for people, to two figures or so: an estimate is no more.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "10 s"
	case d < 100*time.Second:
		return fmt.Sprintf("%d s", d.Round(10*time.Second)/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%d min", d.Round(time.Minute)/time.Minute)
	}
	d = d.Round(10 * time.Minute)
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// spaceSizes is what one database needs on disk, by tablespace.
type spaceSizes map[pg.Name]int64

// sizes estimates what each database of the plan will take. Where the snapshot
// says what it took, sizeOf has found the part's share of it; that counts what was
// bloated at the source too. Else indexes are taken for half of the heaps.
func (p *Plan) sizes() []spaceSizes {
	var all []spaceSizes
	for i := range p.Databases {
		d := &p.Databases[i]
		own := cmp.Or(d.Properties.Tablespace, "pg_default")
		out := spaceSizes{}
		all = append(all, out)
		s := d.Source.Size
		if s == nil {
			out[own] = d.Heap + d.Heap/2
			if o := d.Source.LargeObjects; o != nil {
				out[own] += o.Data.Bytes
			}
			continue
		}
		left := s.Bytes
		for _, e := range s.Elsewhere {
			out[e.Tablespace] += e.Bytes
			left -= e.Bytes
		}
		out[own] += max(left, 0)
	}
	return all
}

// sum adds up the sizes of all databases.
func sum(all []spaceSizes) int64 {
	var n int64
	for _, d := range all {
		for _, bytes := range d {
			n += bytes
		}
	}
	return n
}

// some words a list: the first few names and how many more there are.
func some(names []string, more int64) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		more += int64(n)
		names = names[:most]
	}
	if more > 0 {
		names = append(slices.Clone(names), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
