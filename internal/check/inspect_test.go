package check_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestAnInspectorFindsWhatACheckFinds(t *testing.T) {
	w := newWorld(t)
	i := check.NewInspector(w.repo)
	for _, key := range w.list(repo.PacksPrefix) {
		domain, id, err := repo.ParsePackObject(key)
		must(t, err)
		b := w.object(key)
		found, err := i.Pack(t.Context(), domain, id)
		if err != nil || found.Bad != nil || found.Frames == 0 || found.Bytes >= int64(len(b)) {
			t.Fatalf("%s: %+v, %v", key, found, err)
		}
		for name, change := range map[string]func([]byte) []byte{
			"frame":     func(b []byte) []byte { b[24+100] ^= 1; return b },
			"directory": func(b []byte) []byte { b[len(b)-150] ^= 1; return b },
			"cut":       func(b []byte) []byte { return b[:len(b)-1] },
			"empty":     func([]byte) []byte { return []byte{} },
		} {
			w.put(key, change(bytes.Clone(b)))
			found, err := i.Pack(t.Context(), domain, id)
			if err != nil || found.Bad == nil || found.Bad.Whole == (name == "frame") || found.Detail == "" {
				t.Errorf("%s, %s: %+v, %v", key, name, found, err)
			}
		}
		w.put(key, nil)
		if _, err := i.Pack(t.Context(), domain, id); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s is gone: %v", key, err)
		}
		w.put(key, b)
	}
}
