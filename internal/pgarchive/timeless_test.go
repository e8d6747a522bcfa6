package pgarchive_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

func TestATimelessArchiveIsTheSameButForItsTime(t *testing.T) {
	for _, minor := range []byte{14, 15, 16} {
		b := sample(minor)
		want, err := pgarchive.Read(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := pgarchive.Timeless(b[:pgarchive.HeadSize]); err != nil {
			t.Fatal(err)
		}
		got, err := pgarchive.Read(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if got.Created.Format("2006-01-02 15:04:05") != "2000-01-01 00:00:00" || want.Created.Equal(got.Created) {
			t.Errorf("1.%d: created %v", minor, got.Created)
		}
		if got.Database != want.Database || got.Tool != want.Tool {
			t.Errorf("1.%d: head %q %q", minor, got.Database, got.Tool)
		}
		if !reflect.DeepEqual(want.Entries, got.Entries) {
			t.Errorf("1.%d: its entries differ", minor)
		}
		for n := range 40 {
			if err := pgarchive.Timeless(sample(minor)[:n]); !errors.Is(err, errs.Corrupt) {
				t.Errorf("1.%d: of %d bytes: %v", minor, n, err)
			}
		}
	}
}
