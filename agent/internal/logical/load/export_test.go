package load

import (
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Exported for tests.
var (
	Grants          = grants
	ClampMemory     = clampMemory
	MemoryFor       = memoryFor
	SchemaPublic    = schemaPublic
	Removed         = removed
	WithoutInternal = withoutInternal
)

// Order runs a graph with one worker at a time per step and gives the order in
// which nodes are done. With workers > 1, as many nodes as can run at the same
// time are taken before any is done; they share a step.
func Order(d *repo.Database, a *pgarchive.Archive, children map[[2]string][][2]string, workers int) ([][]string, error) {
	return order(graphInput{database: d, archive: a, children: map[relation][]relation{}, references: map[relation][]relation{}, parts: 1, blockSize: 8192}, children, workers)
}

// OrderOfSuperuser is Order for a role that may do everything, with statistics.
func OrderOfSuperuser(d *repo.Database, a *pgarchive.Archive, children map[[2]string][][2]string, workers int) ([][]string, error) {
	return order(graphInput{database: d, archive: a, children: map[relation][]relation{}, references: map[relation][]relation{}, parts: 1, blockSize: 8192,
		superuser: true, analyze: true}, children, workers)
}

func order(in graphInput, children map[[2]string][][2]string, workers int) ([][]string, error) {
	key := func(k [2]string) relation { return relation{pg.Name(k[0]), pg.Name(k[1])} }
	for p, all := range children {
		for _, c := range all {
			in.children[key(p)] = append(in.children[key(p)], key(c))
		}
	}
	g, err := newGraph(in)
	if err != nil {
		return nil, err
	}
	s := newScheduler(g)
	var steps [][]string
	for {
		var batch []*node
		var names []string
		s.mu.Lock()
		for len(batch) < workers && s.pass() < pgarchive.Passes {
			n := s.pick(s.pass())
			if n == nil {
				break
			}
			n.state = nodeRunning
			s.running++
			s.count(n, 1)
			batch = append(batch, n)
			names = append(names, kindName(n)+n.String())
		}
		s.mu.Unlock()
		if len(batch) == 0 {
			return steps, nil
		}
		steps = append(steps, names)
		for _, n := range batch {
			s.done(n, nil, false)
		}
	}
}

func kindName(n *node) string {
	switch n.kind {
	case nodeRun:
		return "load "
	case nodeVerify, nodeVerifyTree:
		return "compare "
	}
	return ""
}
