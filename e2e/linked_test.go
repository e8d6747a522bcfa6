package e2e_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What a program links is what may break into the host it runs on, and what must
// be kept current there.
func TestProgramsLinkNoMoreThanTheyNeed(t *testing.T) {
	heavy := []string{"github.com/aws/", "go.etcd.io/bbolt", "github.com/versity/"}
	for _, c := range []struct {
		program string
		linked  []string // of heavy
	}{
		{"agent/cmd/tuskvault-agent", nil},
		{"ctl/cmd/tuskctl", []string{"github.com/aws/"}}, // it reads buckets when no controller is left
		{"controller/cmd/tuskvault-controller", []string{"github.com/aws/", "go.etcd.io/bbolt"}},
	} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+c.program)
		cmd.Dir = ".."
		out, err := cmd.Output()
		must(t, err)
		got := map[string]bool{}
		for pkg := range strings.Lines(string(out)) {
			for _, h := range heavy {
				got[h] = got[h] || strings.HasPrefix(pkg, h)
			}
		}
		want := map[string]bool{}
		for _, h := range c.linked {
			want[h] = true
		}
		for _, h := range heavy {
			if got[h] != want[h] {
				t.Errorf("%s links %s: %v, want %v", c.program, h, got[h], want[h])
			}
		}
	}
}
