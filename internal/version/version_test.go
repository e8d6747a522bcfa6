package version_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/version"
)

func TestTheProtocolDocumentListsEveryCapability(t *testing.T) {
	text, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`).FindAllStringSubmatch(string(text), -1)
	history := version.History()
	if len(rows) != len(history) {
		t.Fatalf("the document has %d capabilities, the program %d", len(rows), len(history))
	}
	for i, step := range history {
		if got, want := rows[i][1]+" "+rows[i][2], fmt.Sprintf("%d %s", step.Number, step.Meaning); got != want {
			t.Errorf("row %d of the document: %q, want %q", i+1, got, want)
		}
	}
}

func TestCapabilitiesGrowByOneAndEndWithThisProgram(t *testing.T) {
	history := version.History()
	for i, step := range history {
		if step.Number != uint32(i+1) || step.Meaning == "" {
			t.Errorf("step %d: %+v", i+1, step)
		}
	}
	if last := history[len(history)-1].Number; last != version.Capability {
		t.Errorf("the history ends with %d, the program has %d", last, version.Capability)
	}
}

func TestABuildTellsWhatItIs(t *testing.T) {
	b := version.Get()
	if b.Version == "" || b.Capability != version.Capability || !strings.HasPrefix(b.Platform, "go1.") || !strings.Contains(b.Platform, "/") {
		t.Errorf("%+v", b)
	}
	if !strings.Contains(b.String(), b.Version) || !strings.Contains(b.String(), b.Platform) {
		t.Errorf("%s", b)
	}
}
