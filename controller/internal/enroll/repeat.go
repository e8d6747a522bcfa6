package enroll

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Bounds of the answers that can be given again.
const (
	keepAnswers = time.Hour // agents try again within minutes
	maxAnswers  = 1000      // a few kilobytes each
)

// answer is what an enrollment gave.
type answer struct {
	request [32]byte // SHA-256 of the certificate request
	id      Identity
	at      time.Time
}

// answers are enrollments of late, so that an agent whose answer was lost on
// its way (or held up by a store that did not answer) can ask again with the
// same token and the same certificate request. Only the holder of the same
// private key can do anything with the answer. It is kept in memory alone: after
// a restart such an agent needs "tuskctl agent replace".
type answers struct {
	mu   sync.Mutex
	kept map[catalog.TokenID]answer
}

// keep remembers an answer.
func (a *answers) keep(token catalog.TokenID, request []byte, id Identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for t, old := range a.kept {
		if now.Sub(old.at) > keepAnswers {
			delete(a.kept, t)
		}
	}
	if len(a.kept) < maxAnswers {
		a.kept[token] = answer{sha256.Sum256(request), id, now}
	}
}

// find gives the answer to the same request.
func (a *answers) find(token catalog.TokenID, request []byte) (Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept, ok := a.kept[token]
	return kept.id, ok && kept.request == sha256.Sum256(request) && time.Since(kept.at) <= keepAnswers
}

// again answers a repeated request, if it is one. The transaction waits for
// everything before it, so the enrollment itself is in the store then.
func (s *Service) again(ctx context.Context, token catalog.TokenID, secret [32]byte, r Request) (Identity, bool, error) {
	id, ok := s.answers.find(token, r.CSR)
	if !ok || r.Name != "" && r.Name != id.Name {
		return Identity{}, false, nil
	}
	err := s.catalog.Update(ctx, catalog.Sync, func(tx *catalog.Tx) error {
		t, err := tx.Token(token)
		if err != nil {
			return err
		}
		agent, err := tx.Agent(id.Agent)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(t.SecretHash[:], secret[:]) != 1 {
			return fmt.Errorf("join token %s: its secret is wrong: %w", token, errs.Unauthenticated)
		}
		if t.UsedBy != agent.ID || agent.State != catalog.AgentActive || !Holds(agent.Certificates, sha256.Sum256(id.Chain[0])) {
			return fmt.Errorf("join token %s: was used, and what it gave is void by now: %w", token, errs.Denied)
		}
		return s.trail.Append(tx, catalog.AuditRecord{Actor: "agent/" + agent.Name, Address: r.Address, Action: "agent.enroll", Object: "agent " + agent.Name,
			Outcome: "ok", Detail: fmt.Sprintf("join token %s: the same request again, answered as before", token)})
	})
	return id, true, err
}
