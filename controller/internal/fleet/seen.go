package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// presence is what the hub remembers of an agent's last sign of life.
type presence struct {
	at       time.Time
	measured time.Time // when the skew was; zero when it never was
	skew     time.Duration
	dirty    bool // not written to the catalog yet
}

// touch notes a sign of life. clock is the agent's, zero when it sent none.
func (h *Hub) touch(agent repo.AgentID, clock time.Time) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.seen[agent]
	if p == nil {
		p = &presence{}
		h.seen[agent] = p
	}
	p.at, p.dirty = now, true
	if !clock.IsZero() {
		p.skew, p.measured = clock.Sub(now), now
	}
}

// flushSeen writes all new last-seen times in one transaction, however many
// agents there are, and forgets agents that have gone. A crash loses at most
// flushEvery of them, which is all they are good to. They stay in the file: the
// log in the store would grow by every agent's record twice a minute, and gets
// them with the next change of the agent.
func (h *Hub) flushSeen(ctx context.Context) error {
	h.mu.Lock()
	dirty := make(map[repo.AgentID]presence)
	for id, p := range h.seen {
		if p.dirty {
			dirty[id] = *p
			p.dirty = false
		} else if h.sessions[id] == nil {
			delete(h.seen, id)
		}
	}
	h.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	err := h.deps.Catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		for id, p := range dirty {
			a, err := tx.Agent(id)
			if errors.Is(err, errs.NotFound) {
				continue
			} else if err != nil {
				return err
			}
			a.LastSeen, a.ClockSkew = p.at, p.skew
			if err := tx.PutAgent(a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		for id := range dirty {
			if p := h.seen[id]; p != nil {
				p.dirty = true
			}
		}
	}
	return err
}
