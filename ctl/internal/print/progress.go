package print

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// JobProgress is what is shown of one job.
type JobProgress struct {
	// ID of the job.
	ID string
	// Title, for example "backup db1/main".
	Title string
	// State of the job, in words.
	State string
	// Ended tells that nothing more will come.
	Ended bool
	// Phase of the running attempt.
	Phase string
	// Message is the reason it waits or failed.
	Message string
	// Transferred bytes, sealed.
	Transferred int64
	// Rate in plain bytes per second and Left until all rows are moved, as the
	// controller reckons them; 0 when unknown.
	Rate int64
	Left time.Duration
	// Blocked names sessions that wait behind our locks.
	Blocked []string
	// Parts are its databases.
	Parts []Part
}

// Part is what is shown of one database.
type Part struct {
	Name        string
	Phase       string
	Rows        int64
	Bytes       int64
	Total       int64
	Tables      int
	TablesTotal int
	// Indexes built of IndexesTotal, 0 in a backup.
	Indexes      int
	IndexesTotal int
	// Busy are tables at work, the largest first.
	Busy []Busy
}

// Busy is what is shown of one table.
type Busy struct {
	Name  string
	Phase string
	// Rows of RowsTotal and Bytes of Total, totals 0 when unknown.
	Rows, RowsTotal, Bytes, Total int64
	// Estimated: the totals are estimates.
	Estimated bool
}

// String gives the table on one line: "public.orders  copying  1,200 of about 4,000 rows, 1.0 of 3.2 GiB".
func (t Busy) String() string {
	about := ""
	if t.Estimated {
		about = "about "
	}
	s := t.Name + "  " + t.Phase
	if t.Rows > 0 || t.RowsTotal > 0 {
		s += "  " + Count(t.Rows)
		if t.RowsTotal > 0 {
			s += " of " + about + Count(t.RowsTotal)
		}
		s += " rows,"
	}
	s += "  " + Size(t.Bytes)
	if t.Total > 0 {
		s += " of " + about + Size(t.Total)
	}
	return s
}

// short gives the table within the line of a job: "public.orders copying 30%".
func (t Busy) short() string {
	s := t.Name + " " + t.Phase
	if t.Phase == "copying" && t.Total > 0 {
		s += fmt.Sprintf(" %d%%", min(t.Bytes*100/t.Total, 100))
	}
	return s
}

// Line gives how far a job is on one line: phase, sums and the busiest table.
func (j JobProgress) Line() string {
	more := []string{j.Phase, sums(j)}
	if t, ok := busiest(j); ok {
		more = append(more, t.short())
	}
	return strings.Join(slices.DeleteFunc(more, func(s string) bool { return s == "" }), ", ")
}

// busiest is the largest table at work, of all databases.
func busiest(j JobProgress) (found Busy, ok bool) {
	for _, d := range j.Parts {
		for _, t := range d.Busy {
			if !ok || t.Total > found.Total {
				found, ok = t, true
			}
		}
	}
	return found, ok
}

// plainEvery is the pause between two lines off a terminal.
const plainEvery = 5 * time.Second

// Bounds of what is drawn on a terminal, besides its height.
const (
	// maxBars bounds the heads of jobs and the bars of databases.
	maxBars = 24
	// maxTables bounds the lines of tables, of all jobs together.
	maxTables = 12
)

// Progress shows jobs on standard error: bars on a terminal, else a plain line
// every few seconds. Its methods may be called concurrently.
type Progress struct {
	out io.Writer
	now func() time.Time
	// width and height of the terminal, 0 off one.
	width, height int

	mu sync.Mutex
	// bars is nil off a terminal.
	bars   *mpb.Progress
	shown  map[string]*bar
	tables []*bar // lines of tables
	busy   map[string][]Busy
	lines  map[string]*line
}

// bar is one database, or the head of a job, on a terminal.
type bar struct {
	bar *mpb.Bar

	mu   sync.Mutex
	text string
}

func (b *bar) set(s string) { b.mu.Lock(); b.text = s; b.mu.Unlock() }
func (b *bar) get() string  { b.mu.Lock(); defer b.mu.Unlock(); return b.text }

// line is what is remembered of a job between two updates.
type line struct {
	said  time.Time
	state string
}

// sums adds the databases of a job up and says how fast it goes and how long it
// may still take.
func sums(j JobProgress) string {
	if len(j.Parts) == 0 {
		return ""
	}
	var bytes, rows int64
	var tables, tablesTotal, indexes, indexesTotal int
	for _, d := range j.Parts {
		bytes, rows = bytes+d.Bytes, rows+d.Rows
		tables, tablesTotal = tables+d.Tables, tablesTotal+d.TablesTotal
		indexes, indexesTotal = indexes+d.Indexes, indexesTotal+d.IndexesTotal
	}
	s := fmt.Sprintf("%d/%d tables", tables, tablesTotal)
	if indexesTotal > 0 {
		s += fmt.Sprintf(", %d/%d indexes", indexes, indexesTotal)
	}
	s += fmt.Sprintf(", %s rows, %s", Count(rows), Size(bytes))
	if j.Rate > 0 {
		s += ", " + Size(j.Rate) + "/s"
	}
	if j.Left > 0 {
		s += ", about " + Span(j.Left) + " left"
	}
	return s
}

// NewProgress shows on w. With a height it is a terminal of that height and width.
func NewProgress(w io.Writer, width, height int, now func() time.Time) *Progress {
	p := &Progress{out: w, now: now, width: width, height: height, shown: map[string]*bar{}, busy: map[string][]Busy{}, lines: map[string]*line{}}
	if height > 0 {
		p.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(max(20, width)), mpb.WithRefreshRate(200*time.Millisecond), mpb.WithAutoRefresh())
	}
	return p
}

// Close removes bars that have not ended and waits for the last drawing.
func (p *Progress) Close() {
	p.mu.Lock()
	for _, b := range p.shown {
		b.bar.Abort(true)
	}
	for _, b := range p.tables {
		b.bar.Abort(true)
	}
	p.tables = nil
	p.mu.Unlock()
	if p.bars != nil {
		p.bars.Wait()
	}
}

// Note says why a job shows nothing new.
func (p *Progress) Note(id, text string) {
	p.Update(JobProgress{ID: id, Title: "job " + Short(id), State: text})
}

// Update shows a job as it stands now.
func (p *Progress) Update(j JobProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		p.plainLocked(j)
		return
	}
	p.headLocked(j)
	p.busy[j.ID] = nil
	for _, part := range j.Parts {
		p.partLocked(j, part)
		p.busy[j.ID] = append(p.busy[j.ID], part.Busy...)
	}
	p.tablesLocked()
	if !j.Ended {
		return
	}
	delete(p.busy, j.ID)
	for key, b := range p.shown {
		if len(key) > len(j.ID) && key[:len(j.ID)] == j.ID || key == j.ID {
			b.bar.Abort(true)
			delete(p.shown, key)
		}
	}
}

// lineLocked gives what is remembered of a job.
func (p *Progress) lineLocked(id string) *line {
	l := p.lines[id]
	if l == nil {
		l = &line{}
		p.lines[id] = l
	}
	return l
}

func (p *Progress) headLocked(j JobProgress) {
	b := p.shown[j.ID]
	if b == nil {
		b = &bar{}
		b.bar = p.bars.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.get() })))
		p.shown[j.ID] = b
	}
	text := fmt.Sprintf("%s %s  %s", j.Title, Short(j.ID), j.State)
	for _, s := range []string{j.Phase, sums(j), j.Message} {
		if s != "" {
			text += ", " + s
		}
	}
	b.set(text)
}

func (p *Progress) partLocked(j JobProgress, part Part) {
	key := j.ID + "/" + part.Name
	b := p.shown[key]
	if b == nil {
		if len(p.shown) >= min(maxBars, p.height-1) {
			return
		}
		b = &bar{}
		b.bar = p.bars.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("  "+part.Name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.get() })))
		p.shown[key] = b
	}
	// A total that is passed would end the bar: estimates are stretched instead.
	b.bar.SetTotal(max(part.Total, part.Bytes+1), false)
	b.bar.SetCurrent(part.Bytes)
	text := fmt.Sprintf("%s  %s rows  %s  %d/%d tables", part.Phase, Count(part.Rows), Size(part.Bytes), part.Tables, part.TablesTotal)
	if part.IndexesTotal > 0 {
		text += fmt.Sprintf("  %d/%d indexes", part.Indexes, part.IndexesTotal)
	}
	b.set(text)
}

// tablesPriority puts the lines of tables below everything else.
const tablesPriority = 1 << 20

// tablesLocked shows the largest tables at work, as many as there is room for
// below the bars.
func (p *Progress) tablesLocked() {
	var all []Busy
	for _, busy := range p.busy {
		all = append(all, busy...)
	}
	slices.SortStableFunc(all, func(a, b Busy) int { return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name)) })
	all = all[:min(len(all), maxTables, max(p.height-1-len(p.shown), 0))]
	for len(p.tables) > len(all) {
		p.tables[len(p.tables)-1].bar.Abort(true)
		p.tables = p.tables[:len(p.tables)-1]
	}
	for i, t := range all {
		if i == len(p.tables) {
			b := &bar{}
			b.bar = p.bars.New(0, mpb.NopStyle(), mpb.BarPriority(tablesPriority+i), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.get() })))
			p.tables = append(p.tables, b)
		}
		p.tables[i].set(within("    "+t.String(), p.width-1))
	}
}

// within cuts a text to a number of letters.
func within(s string, n int) string {
	if r := []rune(s); len(r) > n && n > 1 {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (p *Progress) plainLocked(j JobProgress) {
	now, l := p.now(), p.lineLocked(j.ID)
	state := j.State + "/" + j.Phase
	if l.state == state && now.Sub(l.said) < plainEvery {
		return
	}
	l.said, l.state = now, state
	s := fmt.Sprintf("%s  %s %s: %s", now.Local().Format(time.TimeOnly), j.Title, Short(j.ID), j.State)
	if l := j.Line(); l != "" {
		s += ", " + l
	}
	if j.Message != "" {
		s += ": " + j.Message
	}
	_, _ = fmt.Fprintln(p.out, s) // progress is a courtesy
	for _, b := range j.Blocked {
		_, _ = fmt.Fprintln(p.out, "          waits behind our locks: "+b)
	}
}
