package pack

import (
	"os"
	"testing"
)

// Redirect makes a Writer write to another file.
func Redirect(t testing.TB, w *Writer, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	old := w.file
	w.file = f
	t.Cleanup(func() { _, _ = old.Close(), f.Close() })
}
