package fleet

import (
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
)

func TestWhatAnAgentSawIsComparedWithTheHistoryOfThisReign(t *testing.T) {
	w := func(epoch, number uint64, hash byte) catalog.Witness {
		return catalog.Witness{Epoch: epoch, Number: number, Hash: [32]byte{hash}}
	}
	// Epoch 3 took over at record 400 of epoch 2 and is at record 450.
	head, base := w(3, 450, 1), w(2, 400, 2)
	for name, test := range map[string]struct {
		seen catalog.Witness
		says string
	}{
		"the head":                       {head, ""},
		"older than the head":            {w(3, 420, 9), ""},
		"the last one before":            {base, ""},
		"older than that":                {w(2, 399, 9), ""},
		"of an epoch before that":        {w(1, 3, 9), ""},
		"newer than the head":            {w(3, 451, 1), "ends at record 450"},
		"another head":                   {w(3, 450, 7), "another record 450"},
		"newer than what was taken over": {w(2, 401, 1), "ended at record 400 when this controller took over"},
		"newer than all, of before":      {w(2, 500, 1), "ended at record 400"},
		"of a later epoch":               {w(4, 3, 1), "a controller of epoch 4"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ahead(test.seen, head, base, 3)
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("%q, want %q in it", got, test.says)
			}
		})
	}
	if got := ahead(w(1, 10, 1), w(1, 12, 1), catalog.Witness{}, 1); got != "" {
		t.Errorf("in the first reign: %q", got)
	}
}
