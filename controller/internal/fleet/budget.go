package fleet

import (
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// What one agent may make the catalog, and with it the log in the store, write.
// A host that was taken over must not fill either.
const (
	// sessionBurst sessions may be opened at once and one more each sessionEvery.
	// An agent that cannot hold one comes back after a second, then after two, and
	// soon once a minute.
	sessionBurst = 30
	sessionEvery = 5 * time.Second
	// inventoryBurst bytes of changed inventory are written at once and
	// inventoryPerSecond from then on, a third of a gigabyte a day. An agent looks
	// at its host each five minutes and reports a few kilobytes a database server;
	// one with ten thousand databases has its newest figures written each quarter
	// of an hour. What is over the budget waits, and only the newest of it.
	inventoryBurst     = 16 << 20
	inventoryPerSecond = 4 << 10
)

// bucket is a budget that refills.
type bucket struct {
	left float64
	at   time.Time
}

// take spends n of at most burst if they are there. More than burst counts as burst.
func (b *bucket) take(now time.Time, n, burst, perSecond float64) bool {
	if b.at.IsZero() {
		b.left = burst
	}
	b.left = min(burst, b.left+max(0, now.Sub(b.at).Seconds())*perSecond)
	b.at = now
	if n = min(n, burst); b.left < n {
		return false
	}
	b.left -= n
	return true
}

// budgets are those of one agent. They outlive its sessions: there are as many
// as enrolled agents were seen.
type budgets struct{ sessions, inventory bucket }

// budgetsLocked gives the agent's budgets.
func (h *Hub) budgetsLocked(agent repo.AgentID) *budgets {
	b := h.budgets[agent]
	if b == nil {
		b = &budgets{}
		h.budgets[agent] = b
	}
	return b
}

// admit spends one session of the agent's budget.
func (h *Hub) admit(agent repo.AgentID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.budgetsLocked(agent).sessions.take(time.Now(), 1, sessionBurst, 1/sessionEvery.Seconds()) {
		return fmt.Errorf("open session: too many sessions of this agent, try again in %s: %w", sessionEvery, errs.Busy)
	}
	return nil
}

// spend takes bytes of the agent's budget for inventories.
func (h *Hub) spend(agent repo.AgentID, bytes int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.budgetsLocked(agent).inventory.take(time.Now(), float64(bytes), inventoryBurst, inventoryPerSecond)
}

// weight is about how many bytes an inventory takes in the catalog.
func weight(host catalog.Inventory, instances []NamedInstance) int {
	n := 4 << 10 // the host, and what a transaction costs
	for _, s := range host.Drill.Servers {
		n += 64 + len(s.Folder)
		for _, x := range s.Extensions {
			n += 4 + len(x)
		}
	}
	for _, i := range instances {
		n += 1 << 10
		for _, d := range i.Databases {
			n += 64 + len(d.Name) + len(d.Encoding) + len(d.LocaleProvider) + len(d.Locale) + len(d.CollationVersion)
			for _, e := range d.Extensions {
				n += 8 + len(e.Name) + len(e.Version)
			}
		}
		for _, e := range i.AvailableExtensions {
			n += 8 + len(e.Name) + len(e.Version)
		}
		for _, names := range [][]string{i.Roles, i.Tablespaces} {
			for _, name := range names {
				n += 4 + len(name)
			}
		}
	}
	return n
}
