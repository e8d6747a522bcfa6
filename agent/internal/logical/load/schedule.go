package load

import (
	"container/heap"
	"context"
	"fmt"
	"sync"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// scheduler hands the nodes of a graph to workers. All of a pass are done before
// the next begins; among those that are ready the order is class, cost, order.
type scheduler struct {
	mu      sync.Mutex
	changed sync.Cond
	ready   [pgarchive.Passes]readyHeap
	early   readyHeap // of later passes than the present one
	undone  [pgarchive.Passes]int
	running int
	// locked and used count running nodes by relation.
	locked, used map[relation]int
	deferred     []*node
	progressed   bool // a node has been done since nodes were last taken up again
	err          error
}

func newScheduler(g *graph) *scheduler {
	s := &scheduler{locked: map[relation]int{}, used: map[relation]int{}}
	s.changed.L = &s.mu
	for _, n := range g.nodes {
		s.undone[n.pass]++
	}
	for _, n := range g.nodes {
		if n.waits == 0 && n.state == nodeWaiting {
			s.release(n)
		}
	}
	return s
}

// release makes a node ready that waits for nothing any more; barriers are done
// at once, and so on for what waits for them.
func (s *scheduler) release(n *node) {
	todo := []*node{n}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n.kind != nodeBarrier {
			n.state = nodeReady
			if n.early {
				heap.Push(&s.early, n)
			} else {
				heap.Push(&s.ready[n.pass], n)
			}
			continue
		}
		todo = append(todo, s.finish(n)...)
	}
}

// finish marks a node done and gives those that waited for nothing else.
func (s *scheduler) finish(n *node) []*node {
	n.state = nodeDone
	s.undone[n.pass]--
	var free []*node
	for _, m := range n.next {
		if m.waits--; m.waits == 0 {
			free = append(free, m)
		}
	}
	return free
}

// next waits for a node to do. It gives nil when everything is done, and an
// error when ctx has ended or nothing can be done any more.
func (s *scheduler) next(ctx context.Context) (*node, error) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s.err != nil {
			return nil, s.err
		}
		pass := s.pass()
		if pass == pgarchive.Passes {
			return nil, nil
		}
		if n := s.pick(pass); n != nil {
			n.state = nodeRunning
			s.running++
			s.count(n, 1)
			return n, nil
		}
		if s.running == 0 && !s.again() {
			s.changed.Broadcast()
			continue
		}
		if s.running > 0 {
			s.changed.Wait()
		}
	}
}

// pass is the first that is not done.
func (s *scheduler) pass() int {
	for p := range s.undone {
		if s.undone[p] > 0 {
			return p
		}
	}
	return pgarchive.Passes
}

// pick takes the best ready node that no running one excludes: of the pass, or
// else of those that may begin early.
func (s *scheduler) pick(pass int) *node {
	for s.early.Len() > 0 && int(s.early[0].pass) <= pass { // all have the same pass
		n := heap.Pop(&s.early).(*node)
		heap.Push(&s.ready[n.pass], n)
	}
	if n := s.pickOf(&s.ready[pass]); n != nil {
		return n
	}
	return s.pickOf(&s.early)
}

func (s *scheduler) pickOf(ready *readyHeap) *node {
	var skipped []*node
	var found *node
	for ready.Len() > 0 && found == nil {
		n := heap.Pop(ready).(*node)
		if s.excluded(n) {
			skipped = append(skipped, n)
			continue
		}
		found = n
	}
	for _, n := range skipped {
		heap.Push(ready, n)
	}
	return found
}

func (s *scheduler) excluded(n *node) bool {
	for _, r := range n.locks {
		if s.used[r] > 0 {
			return true
		}
	}
	for _, r := range n.uses {
		if s.locked[r] > 0 {
			return true
		}
	}
	return false
}

func (s *scheduler) count(n *node, by int) {
	for _, r := range n.locks {
		s.locked[r] += by
	}
	for _, r := range n.uses {
		s.used[r] += by
	}
}

// again takes up what was put off, once nothing else is left to do: by then the
// names that were missing may exist. If nothing was done since the last time,
// it gives up and sets the error.
func (s *scheduler) again() bool {
	if len(s.deferred) == 0 {
		s.err = fmt.Errorf("the objects of the archive wait for each other: %w", errs.Corrupt)
		return false
	}
	if !s.progressed {
		s.err = s.deferred[0].deferred
		return false
	}
	s.progressed = false
	for _, n := range s.deferred {
		n.state = nodeReady
		heap.Push(&s.ready[n.pass], n)
	}
	s.deferred = nil
	return true
}

// done reports the end of a node. With put set, err is a reason to try it again
// after everything else; otherwise an err is the end of the whole.
func (s *scheduler) done(n *node, err error, put bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	s.running--
	s.count(n, -1)
	switch {
	case err != nil && put:
		n.state, n.deferred = nodeDeferred, err
		s.deferred = append(s.deferred, n)
	case err != nil:
		if s.err == nil {
			s.err = err
		}
	default:
		s.progressed = true
		for _, m := range s.finish(n) {
			s.release(m)
		}
	}
}

// few tells that fewer nodes are running or ready than there are workers: then
// each may use several processes of the server.
func (s *scheduler) few(workers int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.running + s.early.Len()
	if p := s.pass(); p < pgarchive.Passes {
		n += s.ready[p].Len()
	}
	return n < workers
}

// readyHeap orders ready nodes.
type readyHeap []*node

func (h readyHeap) Len() int      { return len(h) }
func (h readyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h readyHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.class != b.class:
		return a.class < b.class
	case a.cost != b.cost:
		return a.cost > b.cost
	}
	return a.order < b.order
}

// Push adds a node, for package heap.
func (h *readyHeap) Push(x any) { *h = append(*h, x.(*node)) }

// Pop takes the last node, for package heap.
func (h *readyHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return n
}
