package load

import "github.com/tuskvault/tuskvault/internal/pgarchive"

// foreignLater takes the foreign keys, and what depends on them, out of the main
// pass: they may begin as soon as their tables are ready and nothing else is,
// but privileges and materialized views do not wait for them. Checking them is
// much of the end of a restore, and filling a materialized view the rest; of
// the two neither needs the other. This takes a superuser: for another role the
// privileges that are restored might stand in the way of a foreign key. Event
// triggers still come after everything.
func (b *builder) foreignLater() {
	var todo []*node
	put := func(n *node) {
		if n.pass < pgarchive.PassRefresh {
			n.pass, n.early = pgarchive.PassRefresh, true
			todo = append(todo, n)
		}
	}
	for _, n := range b.g.nodes {
		if n.class == classForeign {
			put(n)
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, m := range n.next {
			put(m)
		}
	}
}
