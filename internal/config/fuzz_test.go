package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tuskvault/tuskvault/internal/config"
)

// FuzzLoad reads any file as a configuration: it is taken or refused, and what is
// taken can be printed.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{"state_dir: /x\nworkers: 3\nfast: yes\npatience: 5s\nspool: 1GiB\nallow: [a, b]\ntoken: env:X\nlog: {level: info}\nservers: [{}]\n",
		"", "a: &a [*a]", "x: !!binary aGk=", "workers: 99999999999999999999", "- 1", "log: [1]", "? {a: b}\n: c", "spool: -1", "\x00", "a: b: c", "<<: {workers: 1}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var c sample
		r, err := config.Load(&c, config.Source{File: path, Named: true})
		if err == nil && r == nil {
			t.Fatal("no report")
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1", "5MiB", "1.5GiB", "-1", "9999999999TiB", "1e9", "", "KiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := config.ParseSize(text)
		if err == nil && n < 0 {
			t.Fatalf("%q is %d", text, n)
		}
		if err != nil {
			return
		}
		if again, err := config.ParseSize(n.String()); err != nil || again != n && n < 1<<20 {
			t.Fatalf("%q is %d, which prints as %q: %d, %v", text, n, n, again, err)
		}
	})
}
