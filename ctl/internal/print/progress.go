package print

import (
	"fmt"
	"io"
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
}

// plainEvery is the pause between two lines off a terminal.
const plainEvery = 5 * time.Second

// maxBars bounds the bars on a terminal; further databases count in the job's line only.
const maxBars = 24

// Progress shows jobs on standard error: bars on a terminal, else a plain line
// every few seconds. Its methods may be called concurrently.
type Progress struct {
	out io.Writer
	now func() time.Time

	mu sync.Mutex
	// bars is nil off a terminal.
	bars  *mpb.Progress
	shown map[string]*bar
	lines map[string]*line
}

// bar is one database, or the head of a job, on a terminal.
type bar struct {
	bar  *mpb.Bar
	mu   sync.Mutex
	text string
}

func (b *bar) set(s string) { b.mu.Lock(); b.text = s; b.mu.Unlock() }
func (b *bar) get() string  { b.mu.Lock(); defer b.mu.Unlock(); return b.text }

// line is what was last said of a job off a terminal.
type line struct {
	said      time.Time
	state     string
	first     time.Time
	firstByte int64
}

// NewProgress shows on w; tty tells whether that is a terminal of the given width.
func NewProgress(w io.Writer, tty bool, width int, now func() time.Time) *Progress {
	p := &Progress{out: w, now: now, shown: map[string]*bar{}, lines: map[string]*line{}}
	if tty {
		p.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(max(20, width)), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return p
}

// Close removes bars that have not ended and waits for the last drawing.
func (p *Progress) Close() {
	p.mu.Lock()
	for _, b := range p.shown {
		b.bar.Abort(true)
	}
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
	for _, part := range j.Parts {
		p.partLocked(j, part)
	}
	if !j.Ended {
		return
	}
	for key, b := range p.shown {
		if len(key) > len(j.ID) && key[:len(j.ID)] == j.ID || key == j.ID {
			b.bar.Abort(true)
			delete(p.shown, key)
		}
	}
}

func (p *Progress) headLocked(j JobProgress) {
	b := p.shown[j.ID]
	if b == nil {
		b = &bar{}
		b.bar = p.bars.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.get() })))
		p.shown[j.ID] = b
	}
	b.set(fmt.Sprintf("%s %s  %s %s  %s sent or fetched", j.Title, Short(j.ID), j.State, j.Phase, Size(j.Transferred)))
}

func (p *Progress) partLocked(j JobProgress, part Part) {
	key := j.ID + "/" + part.Name
	b := p.shown[key]
	if b == nil {
		if len(p.shown) >= maxBars {
			return
		}
		b = &bar{}
		b.bar = p.bars.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("  "+part.Name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.get() }), decor.Name(" "), decor.EwmaETA(decor.ET_STYLE_GO, 30)))
		p.shown[key] = b
	}
	// A total that is passed would end the bar: estimates are stretched instead.
	b.bar.SetTotal(max(part.Total, part.Bytes+1), false)
	b.bar.EwmaSetCurrent(part.Bytes, time.Second)
	b.set(fmt.Sprintf("%s  %s  %s rows  %d/%d tables", part.Phase, Size(part.Bytes), Count(part.Rows), part.Tables, part.TablesTotal))
}

func (p *Progress) plainLocked(j JobProgress) {
	var bytes, total, rows int64
	var tables, tablesTotal int
	for _, d := range j.Parts {
		bytes, total, rows = bytes+d.Bytes, total+d.Total, rows+d.Rows
		tables, tablesTotal = tables+d.Tables, tablesTotal+d.TablesTotal
	}
	now := p.now()
	l := p.lines[j.ID]
	if l == nil {
		l = &line{first: now, firstByte: bytes}
		p.lines[j.ID] = l
	}
	state := j.State + "/" + j.Phase
	if l.state == state && now.Sub(l.said) < plainEvery {
		return
	}
	l.said, l.state = now, state
	s := fmt.Sprintf("%s  %s %s: %s", now.Local().Format(time.TimeOnly), j.Title, Short(j.ID), j.State)
	if j.Phase != "" {
		s += ", " + j.Phase
	}
	if len(j.Parts) > 0 {
		s += fmt.Sprintf(", %d/%d tables, %s rows, %s", tables, tablesTotal, Count(rows), Size(bytes))
		if d := now.Sub(l.first).Seconds(); d >= 1 && bytes > l.firstByte {
			rate := float64(bytes-l.firstByte) / d
			s += ", " + Size(int64(rate)) + "/s"
			if total > bytes {
				s += ", about " + Span(time.Duration(float64(total-bytes)/rate*float64(time.Second))) + " left"
			}
		}
	}
	if j.Message != "" {
		s += ": " + j.Message
	}
	_, _ = fmt.Fprintln(p.out, s) // progress is a courtesy
	for _, b := range j.Blocked {
		_, _ = fmt.Fprintln(p.out, "          waits behind our locks: "+b)
	}
}
