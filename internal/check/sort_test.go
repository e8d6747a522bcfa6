package check

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortersGiveEveryRecordOnceInOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 5_000} {
		s := newSorter(t.TempDir(), "x", 8)
		s.memory = 8 * 16 // runs of 16 records: 5,000 of them need several levels of merging
		want := map[uint64]bool{}
		for range n {
			v := rng.Uint64N(uint64(n)*2 + 1)
			want[v] = true
			if err := s.add(binary.BigEndian.AppendUint64(nil, v)); err != nil {
				t.Fatal(err)
			}
		}
		out, err := s.finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		if err := out.each(t.Context(), func(b []byte) error { got = append(got, binary.BigEndian.Uint64(b)); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || !slices.IsSorted(got) || slices.ContainsFunc(got, func(v uint64) bool { return !want[v] }) {
			t.Errorf("%d records: %d given, %d are right", n, len(got), len(want))
		}
		if err := out.remove(); err != nil {
			t.Error(err)
		}
	}
}

func TestJoinsGiveEachLeftRecordItsMatches(t *testing.T) {
	make8 := func(name string, values ...[2]uint32) *sorted {
		s := newSorter(t.TempDir(), name, 8)
		for _, v := range values {
			if err := s.add(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, v[0]), v[1])); err != nil {
				t.Fatal(err)
			}
		}
		out, err := s.finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	left := make8("l", [2]uint32{1, 1}, [2]uint32{3, 1}, [2]uint32{3, 2}, [2]uint32{5, 1}, [2]uint32{9, 1})
	right := make8("r", [2]uint32{0, 1}, [2]uint32{3, 7}, [2]uint32{3, 8}, [2]uint32{3, 9}, [2]uint32{5, 4}, [2]uint32{6, 1})
	var got [][3]int
	err := joinOn(t.Context(), left, right, 4, 2, func(l []byte, r [][]byte, more bool) error {
		m := 0
		if more {
			m = 1
		}
		for _, x := range r {
			if !bytes.Equal(x[:4], l[:4]) {
				t.Errorf("%x joined with %x", l, x)
			}
		}
		got = append(got, [3]int{int(binary.BigEndian.Uint32(l)), len(r), m})
		return nil
	})
	want := [][3]int{{1, 0, 0}, {3, 2, 1}, {3, 2, 1}, {5, 1, 0}, {9, 0, 0}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, want %v: %v", got, want, err)
	}
}
