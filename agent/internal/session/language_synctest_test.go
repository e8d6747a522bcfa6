package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/session"
)

// A PostgreSQL that refuses a connection says so in its own language and
// encoding: nothing was agreed upon yet.
func TestAnInventoryInAnyEncodingIsSent(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		a.inventor.mu.Lock()
		a.inventor.also = []session.Instance{{Name: "other", Error: "Passwort-Authentifizierung f\xfcr Benutzer fehlgeschlagen",
			DataDirectory: "/srv/b\xfccher", Databases: []session.Database{{Name: "shop", Locale: "fran\xe7ais"}}}}
		a.inventor.mu.Unlock()
		settle(7 * time.Minute)
		h := c.last()
		if len(h.stocks) != 1 {
			t.Fatalf("%d inventories were sent, want 1", len(h.stocks))
		}
		got := h.stocks[0].GetInstances()
		if len(got) != 2 || !strings.Contains(got[1].GetError(), "f?r Benutzer") || got[1].GetDataDirectory() != "/srv/b?cher" {
			t.Errorf("instances %v", got)
		}
	})
}
