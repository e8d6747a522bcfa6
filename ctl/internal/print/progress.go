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
	bar   *mpb.Bar
	drawn time.Time // when its bytes were last set

	mu   sync.Mutex
	text string
}

func (b *bar) set(s string) { b.mu.Lock(); b.text = s; b.mu.Unlock() }
func (b *bar) get() string  { b.mu.Lock(); defer b.mu.Unlock(); return b.text }

// line is what is remembered of a job between two updates.
type line struct {
	said      time.Time
	state     string
	first     time.Time
	firstByte int64
}

// sums adds the databases of a job up and says how fast it goes and how long it
// may still take.
func (l *line) sums(j JobProgress, now time.Time) string {
	if len(j.Parts) == 0 {
		return ""
	}
	var bytes, total, rows int64
	var tables, tablesTotal int
	for _, d := range j.Parts {
		bytes, total, rows = bytes+d.Bytes, total+d.Total, rows+d.Rows
		tables, tablesTotal = tables+d.Tables, tablesTotal+d.TablesTotal
	}
	if l.first.IsZero() || bytes < l.firstByte {
		l.first, l.firstByte = now, bytes
	}
	s := fmt.Sprintf("%d/%d tables, %s rows, %s", tables, tablesTotal, Count(rows), Size(bytes))
	if d := now.Sub(l.first).Seconds(); d >= 1 && bytes > l.firstByte {
		rate := float64(bytes-l.firstByte) / d
		s += ", " + Size(int64(rate)) + "/s"
		if total > bytes {
			s += ", about " + Span(time.Duration(float64(total-bytes)/rate*float64(time.Second))) + " left"
		}
	}
	return s
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
	for _, s := range []string{j.Phase, p.lineLocked(j.ID).sums(j, p.now()), j.Message} {
		if s != "" {
			text += ", " + s
		}
	}
	b.set(text)
}

func (p *Progress) partLocked(j JobProgress, part Part) {
	key := j.ID + "/" + part.Name
	now := p.now()
	b := p.shown[key]
	if b == nil {
		if len(p.shown) >= maxBars {
			return
		}
		b = &bar{drawn: now}
		b.bar = p.bars.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("  "+part.Name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.get() }),
				decor.Name("  "), decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30), decor.Name("  "), decor.EwmaETA(decor.ET_STYLE_GO, 30)))
		p.shown[key] = b
	}
	// A total that is passed would end the bar: estimates are stretched instead.
	b.bar.SetTotal(max(part.Total, part.Bytes+1), false)
	if part.Bytes != b.bar.Current() {
		b.bar.EwmaSetCurrent(part.Bytes, max(now.Sub(b.drawn), time.Millisecond))
		b.drawn = now
	}
	b.set(fmt.Sprintf("%s  %s rows  %d/%d tables", part.Phase, Count(part.Rows), part.Tables, part.TablesTotal))
}

func (p *Progress) plainLocked(j JobProgress) {
	now, l := p.now(), p.lineLocked(j.ID)
	sums := l.sums(j, now)
	state := j.State + "/" + j.Phase
	if l.state == state && now.Sub(l.said) < plainEvery {
		return
	}
	l.said, l.state = now, state
	s := fmt.Sprintf("%s  %s %s: %s", now.Local().Format(time.TimeOnly), j.Title, Short(j.ID), j.State)
	for _, more := range []string{j.Phase, sums} {
		if more != "" {
			s += ", " + more
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
