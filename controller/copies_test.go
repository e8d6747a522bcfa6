package controller_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestCopiesThatMakeNoSenseAreRefused(t *testing.T) {
	good := controller.CopyConfig{Name: "far", Store: "file:///far"}
	for what, c := range map[string]struct {
		copies []controller.CopyConfig
		says   string
	}{
		"none":              {nil, ""},
		"one":               {[]controller.CopyConfig{good}, ""},
		"no name":           {[]controller.CopyConfig{{Store: "file:///far"}}, `name ""`},
		"a path for a name": {[]controller.CopyConfig{{Name: "../far", Store: "file:///far"}}, `name "../far"`},
		"a name twice":      {[]controller.CopyConfig{good, {Name: "far", Store: "file:///near"}}, "twice"},
		"a store twice":     {[]controller.CopyConfig{good, {Name: "near", Store: "file:///far"}}, "another copy"},
		"the own store":     {[]controller.CopyConfig{{Name: "near", Store: "file:///own"}}, "of the repository"},
		"no store":          {[]controller.CopyConfig{{Name: "near"}}, "store"},
		"a negative rate":   {[]controller.CopyConfig{{Name: "near", Store: "file:///near", BytesPerSecond: -1}}, "bytes_per_second"},
		"a negative lag":    {[]controller.CopyConfig{{Name: "near", Store: "file:///near", MaxLag: -1}}, "max_lag"},
		"too many": {[]controller.CopyConfig{good, {Name: "a", Store: "file:///a"}, {Name: "b", Store: "file:///b"}, {Name: "c", Store: "file:///c"},
			{Name: "d", Store: "file:///d"}}, "5, there can be 4"},
	} {
		cfg := controller.DefaultConfig()
		cfg.Store, cfg.Copies = "file:///own", c.copies
		err := cfg.Validate()
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, errs.Invalid) || !strings.Contains(fmt.Sprint(err), c.says)) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
}

func TestCopiesAreReadFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("copies:\n  - name: far\n    store: file:///far\n    bytes_per_second: 20MiB\n    max_lag: 12h\n  - name: near\n    store: file:///near\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := controller.DefaultConfig()
	if _, err := config.Load(&cfg, config.Source{File: path, Named: true}); err != nil {
		t.Fatal(err)
	}
	want := []controller.CopyConfig{{Name: "far", Store: "file:///far", BytesPerSecond: 20 << 20, MaxLag: 12 * time.Hour}, {Name: "near", Store: "file:///near"}}
	if len(cfg.Copies) != 2 || cfg.Copies[0] != want[0] || cfg.Copies[1] != want[1] {
		t.Errorf("%+v", cfg.Copies)
	}
}
