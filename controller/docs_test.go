package controller_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/config"
)

func TestTheOperationsPageHasEveryKeyAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n### Controller\n")
	if !ok {
		t.Fatal("the page has no section Controller")
	}
	section, _, _ = strings.Cut(section, "\n### ")
	documented, defaults := map[string]bool{}, controller.DefaultConfig()
	for line := range strings.Lines(section) {
		if key, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(line, "| `") && rest != "" {
			documented[key] = true
		}
	}
	for _, key := range config.Keys(&defaults) {
		if !documented[key] {
			t.Errorf("key %s is not on the page", key)
		}
		delete(documented, key)
	}
	for key := range documented {
		t.Errorf("the page has %s, the program has not", key)
	}
}
