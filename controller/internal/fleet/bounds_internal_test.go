package fleet

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
)

func TestWhatAnAgentSaysIsMadeShortAndPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"plain", 10, "plain"},
		{"ééé", 3, "é"},
		{"a\x1b[31mred\n", 20, "a [31mred "},
		{"bad\xff\xfe", 20, "bad?"},
		{strings.Repeat("x", 50), 10, "xxxxxxxxxx"},
	} {
		got := clip(c.in, c.n)
		if got != c.want || !utf8.ValidString(got) {
			t.Errorf("clip(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestAnInventoryBeyondItsBoundsIsCutAndSaysSo(t *testing.T) {
	v := catalog.InstanceInventory{Reachable: true, DataDirectory: strings.Repeat("/x", 4000), Roles: make([]string, maxRoles+5)}
	for range maxDatabases + 7 {
		v.Databases = append(v.Databases, catalog.DatabaseInventory{Name: strings.Repeat("n", 400), Extensions: make([]catalog.Extension, 10)})
	}
	var notes []string
	got := boundInstance(v, &notes)
	if len(got.Databases) != maxDatabases || len(got.Roles) != maxRoles || len(got.DataDirectory) > maxText || len(got.Databases[0].Name) > maxName {
		t.Errorf("%d databases, %d roles, folder of %d, name of %d bytes", len(got.Databases), len(got.Roles), len(got.DataDirectory), len(got.Databases[0].Name))
	}
	extensions := 0
	for _, d := range got.Databases {
		extensions += len(d.Extensions)
	}
	if extensions > maxAllExtensions {
		t.Errorf("%d extensions kept", extensions)
	}
	if all := strings.Join(notes, "; "); !strings.Contains(all, "10000 of 10007 databases") || !strings.Contains(all, "10000 of 10005 roles") {
		t.Errorf("notes %q do not say what was cut", all[:min(len(all), 300)])
	}
	if len(notes) > 100 {
		t.Errorf("%d notes", len(notes))
	}
}

func TestAResultBeyondItsBoundsIsCutAndSaysSo(t *testing.T) {
	r := catalog.Result{Outcome: catalog.OutcomeFailed, Error: strings.Repeat("e", 5000), Problems: make([]catalog.Problem, 5000), Plan: make([]string, 20000)}
	for i := range r.Plan {
		r.Plan[i] = strings.Repeat("p", 200)
	}
	got := boundResult(r)
	total := 0
	for _, line := range got.Plan {
		total += len(line)
	}
	if len(got.Problems) > catalog.MaxProblems || len(got.Error) > maxText || total > maxResultPart {
		t.Errorf("%d problems, error of %d bytes, plan of %d bytes", len(got.Problems), len(got.Error), total)
	}
	if last := got.Problems[len(got.Problems)-1]; !strings.Contains(last.Reason, "of 5000 problems") || !strings.Contains(last.Reason, "plan lines") {
		t.Errorf("last problem %q does not say what was cut", last.Reason)
	}
	small := catalog.Result{Outcome: catalog.OutcomeSucceeded, Problems: []catalog.Problem{{Reason: "x"}}}
	if got := boundResult(small); len(got.Problems) != 1 {
		t.Errorf("a small result was changed: %+v", got)
	}
}
