package load_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestMemoryForIndexesIsAShareWithinBounds(t *testing.T) {
	for _, c := range [][3]int64{{0, 2, 64 << 20}, {1 << 30, 2, 64 << 20}, {8 << 30, 4, 256 << 20}, {64 << 30, 2, 512 << 20}, {8 << 30, 0, 512 << 20}} {
		if got := load.ClampMemory(c[0], int(c[1])); got != c[2] {
			t.Errorf("%d bytes for %d jobs: %d", c[0], c[1], got)
		}
	}
}

func TestSortsGetLittleMemoryAndWhatIsNoSortTheLimit(t *testing.T) {
	const limit = 512 << 20
	index := func(am string) *pgarchive.Entry {
		return &pgarchive.Entry{Desc: "INDEX", Defn: "CREATE INDEX i ON public.t USING " + am + " (c);"}
	}
	key := &pgarchive.Entry{Desc: "CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY (id);"}
	for _, c := range []struct {
		entry     *pgarchive.Entry
		heap      int64
		parallel  int
		min, most int64
	}{
		{key, 0, 0, 32 << 20, 32 << 20},
		{index("btree"), 1 << 30, 0, 32 << 20, 32 << 20},
		{index("btree"), 1 << 30, 2, 96 << 20, 96 << 20},
		{index("btree"), 100 << 30, 0, 160 << 20, 170 << 20}, // one merge of 600 pieces
		{index("btree"), 10 << 40, 0, limit, limit},
		{index("gin"), 0, 0, limit, limit},
		{&pgarchive.Entry{Desc: "CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT k EXCLUDE USING gist (c WITH &&);"}, 0, 0, limit, limit},
		{&pgarchive.Entry{Desc: "FK CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT f FOREIGN KEY (c) REFERENCES public.u(id);"}, 0, 0, limit, limit},
	} {
		if got := load.MemoryFor(c.entry, c.heap, c.parallel, limit); got < c.min || got > c.most {
			t.Errorf("%s over %d bytes, %d processes: %d bytes", c.entry.Defn, c.heap, c.parallel, got)
		}
	}
}

func TestPrivilegesAreGivenByTheirGrantorsInOrder(t *testing.T) {
	acl := repo.ACL{
		{Grantor: "ann", Grantee: "", Privilege: "CONNECT"}, {Grantor: "bob", Grantee: "eve", Privilege: "CREATE"},
		{Grantor: "ann", Grantee: "bob", Privilege: "CREATE", Grantable: true}, {Grantor: "ann", Grantee: "ann", Privilege: "CREATE"},
	}
	want := []string{
		`REVOKE ALL ON DATABASE "d" FROM PUBLIC;`, `REVOKE ALL ON DATABASE "d" FROM "ann";`, `GRANT CREATE ON DATABASE "d" TO "ann";`,
		`GRANT CREATE ON DATABASE "d" TO "bob" WITH GRANT OPTION;`, `GRANT CONNECT ON DATABASE "d" TO PUBLIC;`,
		`SET LOCAL SESSION AUTHORIZATION "bob"; GRANT CREATE ON DATABASE "d" TO "eve"; SET LOCAL SESSION AUTHORIZATION DEFAULT;`,
	}
	if d := cmp.Diff(want, load.Grants(`DATABASE "d"`, "ann", acl)); d != "" {
		t.Error(d)
	}
	if load.Grants("x", "ann", nil) != nil || len(load.Grants("x", "ann", repo.ACL{})) != 2 {
		t.Error("no privileges recorded means the default, an empty list means none")
	}
	if q := load.Grants("x", "ann", repo.ACL{{Grantor: "ann", Grantee: "b", Privilege: "ALL; DROP"}}); slices.ContainsFunc(q, func(s string) bool { return strings.Contains(s, "DROP") }) {
		t.Error("a privilege can be a statement")
	}
}
