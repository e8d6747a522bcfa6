package job

import (
	"testing"
	"time"
)

func TestTheRateIsThatOfTheLastSeconds(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct {
		bytes func(second int) int64
		n     int
		want  int64
	}{
		"nothing yet":             {func(int) int64 { return 5 }, 1, 0},
		"steady":                  {func(s int) int64 { return int64(s) * 100 }, 60, 100},
		"slower than at first":    {func(s int) int64 { return int64(min(s, 30)*1000 + max(s-30, 0)*10) }, 60, 10},
		"stuck":                   {func(s int) int64 { return int64(min(s, 30)) * 1000 }, 60, 0},
		"a table that was reread": {func(s int) int64 { return int64(s%50) * 100 }, 60, 100},
	} {
		var p pace
		for s := range c.n {
			p = p.add(start.Add(time.Duration(s)*time.Second), c.bytes(s))
		}
		if got := p.rate(); got != c.want {
			t.Errorf("%s: %d bytes a second, want %d", name, got, c.want)
		}
		if len(p) > 12 {
			t.Errorf("%s: %d samples are kept", name, len(p))
		}
	}
	var p pace
	for i := range 10_000 { // an agent that talks too much
		p = p.add(start.Add(time.Duration(i)*time.Millisecond), int64(i))
	}
	if len(p) > 24 || p.rate() != 1000 {
		t.Errorf("%d samples are kept, %d bytes a second", len(p), p.rate())
	}
}

func TestTheTimeLeftIsSaidOnlyWhereItIsKnown(t *testing.T) {
	data := func(done, total int64) DatabaseProgress {
		return DatabaseProgress{Phase: "data", BytesDone: done, BytesTotal: total}
	}
	for name, c := range map[string]struct {
		databases []DatabaseProgress
		rate      int64
		want      int64
	}{
		"half":                     {[]DatabaseProgress{data(500, 1000)}, 10, 50},
		"several":                  {[]DatabaseProgress{data(500, 1000), {Phase: "waiting", BytesTotal: 200}, {Phase: "done", BytesTotal: 900}}, 10, 70},
		"nothing moves":            {[]DatabaseProgress{data(500, 1000)}, 0, 0},
		"one that is not known":    {[]DatabaseProgress{data(500, 1000), {Phase: "locking"}}, 10, 0},
		"one without rows":         {[]DatabaseProgress{data(500, 1000), {Phase: "done"}}, 10, 50},
		"more than was expected":   {[]DatabaseProgress{data(1500, 1000)}, 10, 0},
		"nearly there":             {[]DatabaseProgress{data(999, 1000)}, 10, 1},
		"one that failed":          {[]DatabaseProgress{data(500, 1000), {Phase: "failed", BytesTotal: 1 << 40}}, 10, 50},
		"all is in, indexes build": {[]DatabaseProgress{{Phase: "indexes", BytesDone: 1000, BytesTotal: 1000}}, 10, 0},
	} {
		if got := secondsLeft(&Progress{Databases: c.databases}, c.rate); got != c.want {
			t.Errorf("%s: %d seconds left, want %d", name, got, c.want)
		}
	}
}
