package clock_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/clock"
)

func TestAClockIsBelievedWhenEveryWitnessAgrees(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(offs ...time.Duration) (out []time.Time) {
		for _, off := range offs {
			out = append(out, now.Add(off))
		}
		return out
	}
	const h, day = time.Hour, 24 * time.Hour
	for name, c := range map[string]struct {
		e     clock.Evidence
		says  string // empty: believed
		leapt bool
	}{
		"an agent agrees":                              {e: clock.Evidence{Expected: now.Add(-time.Minute), Agents: at(time.Second)}},
		"an agent agrees after a day off":              {e: clock.Evidence{Expected: now.Add(-day), Agents: at(0)}},
		"an agent agrees and nothing was believed":     {e: clock.Evidence{Agents: at(0)}},
		"alone, and as expected":                       {e: clock.Evidence{Expected: now.Add(-59 * time.Minute)}},
		"the store agrees after a year off":            {e: clock.Evidence{Expected: now.Add(-365 * day), Store: now.Add(time.Minute)}},
		"one of three agents is far off":               {e: clock.Evidence{Expected: now, Agents: at(0, 400*day, time.Minute)}},
		"400 days ahead of agents":                     {e: clock.Evidence{Expected: now, Agents: at(-400*day, -400*day)}, says: "9600h0m0s ahead"},
		"400 days ahead of the store":                  {e: clock.Evidence{Expected: now, Store: now.Add(-400 * day), Agents: at(0)}, says: "store"},
		"400 days ahead, nobody there":                 {e: clock.Evidence{Expected: now.Add(-400 * day)}, says: "no agent is connected"},
		"400 days ahead, with agents on the same host": {e: clock.Evidence{Expected: now.Add(-400 * day), Agents: at(0)}, says: "leapt", leapt: true},
		"two days back, nobody there":                  {e: clock.Evidence{Expected: now.Add(2 * day)}, says: "48h0m0s behind"},
		"two days behind agents":                       {e: clock.Evidence{Expected: now, Agents: at(2 * day)}, says: "48h0m0s behind"},
		"one of two agents says otherwise":             {e: clock.Evidence{Expected: now, Agents: at(0, -2*h)}, says: "agents"},
		"nothing known at all":                         {e: clock.Evidence{}, says: "nobody else"},
	} {
		c.e.Now = now
		v := clock.Judge(c.e)
		if v.Doubt == "" != (c.says == "") || !strings.Contains(v.Doubt, c.says) || v.Leapt != c.leapt {
			t.Errorf("%s: %+v, want it to say %q", name, v, c.says)
		}
	}
}
