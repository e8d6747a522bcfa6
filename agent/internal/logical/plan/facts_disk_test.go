package plan_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
)

func TestAServerElsewhereIsNotTakenForTheOneHere(t *testing.T) {
	here := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(here, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(here, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	control := binary.NativeEndian.AppendUint64(nil, 7)
	for _, c := range []struct {
		what, pid string
		control   []byte
		data      string
		socket    bool
		want      string // "" is here
	}{
		{"the server here", "1\n/data\n1000\n5432\n", control, here, false, ""},
		{"started a moment before it says so", "1\n/data\n990\n5432\n", control, here, false, ""},
		{"the server here, over its socket", "", control, here, true, ""},
		{"no such folder", "", control, here + "/none", true, "this host has no"},
		{"a folder of another server", "1\n/data\n1000\n", binary.NativeEndian.AppendUint64(nil, 8), here, true, "is of another one"},
		{"another server of the cluster", "1\n/data\n500\n", control, here, false, "started at another time"},
		{"a stopped server of the cluster", "", control, here, false, "no server runs in"},
		{"a file that is cut off", "1\n", control, here, false, "no server runs in"},
		{"rubbish", "1\n/data\nx\n", control, here, false, "started at another time"},
		{"a control file that is cut off", "", control[:3], here, false, "cannot be read"},
	} {
		write("global/pg_control", c.control)
		write("postmaster.pid", []byte(c.pid))
		if got := plan.Elsewhere(c.data, 7, 1000, c.socket); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}
