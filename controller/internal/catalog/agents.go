package catalog

import (
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Agent gives the agent with this id.
func (tx *Tx) Agent(id repo.AgentID) (Agent, error) {
	return get(tx, bucketAgents, id[:], "agent "+id.String(), fromAgent)
}

// AgentByName gives the agent with this name.
func (tx *Tx) AgentByName(name string) (Agent, error) {
	id := tx.bucket(indexAgentNames).Get([]byte(name))
	if id == nil {
		return Agent{}, fmt.Errorf("agent %q: %w", name, errs.NotFound)
	}
	return get(tx, bucketAgents, id, "agent "+name, fromAgent)
}

// FindAgent gives the agent with this name, id or unique prefix of an id.
func (tx *Tx) FindAgent(ref string) (Agent, error) {
	a, err := tx.AgentByName(ref)
	if !errors.Is(err, errs.NotFound) {
		return a, err
	}
	key, err := findPrefix(tx, bucketAgents, "agent", ref, len(repo.ID{}))
	if err != nil {
		return Agent{}, err
	}
	return get(tx, bucketAgents, key, "agent "+ref, fromAgent)
}

// PutAgent writes an agent. A name that another agent has is Exists, and an
// agent's name never changes.
func (tx *Tx) PutAgent(a Agent) error {
	if a.ID.IsZero() || a.Name == "" {
		return fmt.Errorf("agent %q: without id or name: %w", a.Name, errs.Invalid)
	}
	if id := tx.bucket(indexAgentNames).Get([]byte(a.Name)); id != nil && string(id) != string(a.ID[:]) {
		return fmt.Errorf("agent %q: %w", a.Name, errs.Exists)
	}
	old, err := tx.Agent(a.ID)
	switch {
	case errors.Is(err, errs.NotFound):
		if err := tx.index(indexAgentNames, []byte(a.Name), a.ID[:]); err != nil {
			return err
		}
	case err != nil:
		return err
	case old.Name != a.Name:
		return fmt.Errorf("agent %q: its name cannot become %q: %w", old.Name, a.Name, errs.Invalid)
	}
	return tx.put(bucketAgents, a.ID[:], toAgent(a))
}

// Agents lists agents by name.
func (tx *Tx) Agents(page Page, keep func(Agent) bool) ([]Agent, string, error) {
	return list(tx, indexAgentNames, nil, page, func(name, id []byte) (Agent, error) {
		return get(tx, bucketAgents, id, "agent "+string(name), fromAgent)
	}, keep)
}

// Inventory gives what the agent last reported of its host.
func (tx *Tx) Inventory(id repo.AgentID) (Inventory, error) {
	return get(tx, bucketInventory, id[:], "inventory of agent "+id.String(), fromInventory)
}

// PutInventory replaces it.
func (tx *Tx) PutInventory(id repo.AgentID, inv Inventory) error {
	return tx.put(bucketInventory, id[:], toInventory(inv))
}

// Operator gives the operator of this name.
func (tx *Tx) Operator(name string) (Operator, error) {
	return get(tx, bucketOperators, []byte(name), fmt.Sprintf("operator %q", name), fromOperator)
}

// PutOperator writes an operator.
func (tx *Tx) PutOperator(o Operator) error {
	if o.Name == "" {
		return fmt.Errorf("operator without a name: %w", errs.Invalid)
	}
	return tx.put(bucketOperators, []byte(o.Name), toOperator(o))
}

// Operators lists operators by name.
func (tx *Tx) Operators(page Page) ([]Operator, string, error) {
	return list(tx, bucketOperators, nil, page, func(k, v []byte) (Operator, error) {
		return decode(bucketOperators, k, v, fromOperator)
	}, nil)
}
