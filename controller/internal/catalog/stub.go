package catalog

import (
	"context"
	"errors"
	"iter"

	"github.com/tuskvault/tuskvault/internal/repo"
)

var errTODO = errors.New("catalog: not written yet")

// Class says whether and how a change reaches the catalog log in the store.
type Class int

// The classes of changes.
const (
	// Local changes stay in the file.
	Local Class = iota
	// Async changes are in the store within seconds.
	Async
	// Sync changes are in the store before Update returns.
	Sync
)

// Catalog is the open catalog.
type Catalog struct{}

// Tx is a transaction; it is worth nothing after the function it was given to has returned.
type Tx struct{}

// JobFilter selects jobs; its zero value selects all.
type JobFilter struct {
	// Instance, when not zero.
	Instance repo.InstanceID
	// States, when not empty.
	States []JobState
}

// View is described with its code.
func (c *Catalog) View(ctx context.Context, fn func(*Tx) error) error { return errTODO }

// Update is described with its code.
func (c *Catalog) Update(ctx context.Context, class Class, fn func(*Tx) error) error { return errTODO }

// Close is described with its code.
func (c *Catalog) Close() error { return errTODO }

// Meta is described with its code.
func (tx *Tx) Meta() (Meta, error) { return Meta{}, errTODO }

// PutMeta is described with its code.
func (tx *Tx) PutMeta(m Meta) error { return errTODO }

// NextFence is described with its code.
func (tx *Tx) NextFence() (repo.Fence, error) { return repo.Fence{}, errTODO }

// Agent is described with its code.
func (tx *Tx) Agent(id repo.AgentID) (Agent, error) { return Agent{}, errTODO }

// AgentByName is described with its code.
func (tx *Tx) AgentByName(name string) (Agent, error) { return Agent{}, errTODO }

// FindAgent is described with its code.
func (tx *Tx) FindAgent(ref string) (Agent, error) { return Agent{}, errTODO }

// PutAgent is described with its code.
func (tx *Tx) PutAgent(a Agent) error { return errTODO }

// Agents is described with its code.
func (tx *Tx) Agents(page Page, keep func(Agent) bool) ([]Agent, string, error) {
	return nil, "", errTODO
}

// Inventory is described with its code.
func (tx *Tx) Inventory(id repo.AgentID) (Inventory, error) { return Inventory{}, errTODO }

// PutInventory is described with its code.
func (tx *Tx) PutInventory(id repo.AgentID, inv Inventory) error { return errTODO }

// Token is described with its code.
func (tx *Tx) Token(id TokenID) (Token, error) { return Token{}, errTODO }

// FindToken is described with its code.
func (tx *Tx) FindToken(prefix string) (Token, error) { return Token{}, errTODO }

// PutToken is described with its code.
func (tx *Tx) PutToken(t Token) error { return errTODO }

// DeleteToken is described with its code.
func (tx *Tx) DeleteToken(id TokenID) error { return errTODO }

// Tokens is described with its code.
func (tx *Tx) Tokens(page Page, keep func(Token) bool) ([]Token, string, error) {
	return nil, "", errTODO
}

// Instance is described with its code.
func (tx *Tx) Instance(id repo.InstanceID) (Instance, error) { return Instance{}, errTODO }

// InstanceByName is described with its code.
func (tx *Tx) InstanceByName(agent, name string) (Instance, error) { return Instance{}, errTODO }

// FindInstance is described with its code.
func (tx *Tx) FindInstance(ref string) (Instance, error) { return Instance{}, errTODO }

// PutInstance is described with its code.
func (tx *Tx) PutInstance(i Instance) error { return errTODO }

// InstancesOf is described with its code.
func (tx *Tx) InstancesOf(agentName string) ([]Instance, error) { return nil, errTODO }

// Instances is described with its code.
func (tx *Tx) Instances(page Page, keep func(Instance) bool) ([]Instance, string, error) {
	return nil, "", errTODO
}

// Cluster is described with its code.
func (tx *Tx) Cluster(name string) (Cluster, error) { return Cluster{}, errTODO }

// PutCluster is described with its code.
func (tx *Tx) PutCluster(c Cluster) error { return errTODO }

// DeleteCluster is described with its code.
func (tx *Tx) DeleteCluster(name string) error { return errTODO }

// Operator is described with its code.
func (tx *Tx) Operator(name string) (Operator, error) { return Operator{}, errTODO }

// PutOperator is described with its code.
func (tx *Tx) PutOperator(o Operator) error { return errTODO }

// Operators is described with its code.
func (tx *Tx) Operators(page Page) ([]Operator, string, error) { return nil, "", errTODO }

// Job is described with its code.
func (tx *Tx) Job(id repo.JobID) (Job, error) { return Job{}, errTODO }

// FindJob is described with its code.
func (tx *Tx) FindJob(prefix string) (Job, error) { return Job{}, errTODO }

// PutJob is described with its code.
func (tx *Tx) PutJob(j Job) error { return errTODO }

// Jobs is described with its code.
func (tx *Tx) Jobs(page Page, filter JobFilter) ([]Job, string, error) { return nil, "", errTODO }

// JobsIn is described with its code.
func (tx *Tx) JobsIn(states ...JobState) iter.Seq2[Job, error] { return nil }

// Attempt is described with its code.
func (tx *Tx) Attempt(job repo.JobID, fence repo.Fence) (Attempt, error) { return Attempt{}, errTODO }

// PutAttempt is described with its code.
func (tx *Tx) PutAttempt(a Attempt) error { return errTODO }

// Attempts is described with its code.
func (tx *Tx) Attempts(job repo.JobID, last int) ([]Attempt, error) { return nil, errTODO }

// AppendLog is described with its code.
func (tx *Tx) AppendLog(job repo.JobID, lines ...LogLine) error { return errTODO }

// Logs is described with its code.
func (tx *Tx) Logs(job repo.JobID, page Page) ([]LogLine, string, error) { return nil, "", errTODO }

// Snapshot is described with its code.
func (tx *Tx) Snapshot(id repo.JobID) (Snapshot, error) { return Snapshot{}, errTODO }

// FindSnapshot is described with its code.
func (tx *Tx) FindSnapshot(ref string) (Snapshot, error) { return Snapshot{}, errTODO }

// LatestSnapshot is described with its code.
func (tx *Tx) LatestSnapshot(instance repo.InstanceID) (Snapshot, error) { return Snapshot{}, errTODO }

// PutSnapshot is described with its code.
func (tx *Tx) PutSnapshot(s Snapshot) error { return errTODO }

// Snapshots is described with its code.
func (tx *Tx) Snapshots(page Page, keep func(Snapshot) bool) ([]Snapshot, string, error) {
	return nil, "", errTODO
}

// SnapshotsOf is described with its code.
func (tx *Tx) SnapshotsOf(instance repo.InstanceID, page Page) ([]Snapshot, string, error) {
	return nil, "", errTODO
}

// Pack is described with its code.
func (tx *Tx) Pack(job repo.JobID, id PackID) (Pack, error) { return Pack{}, errTODO }

// PutPack is described with its code.
func (tx *Tx) PutPack(p Pack) error { return errTODO }

// DeletePack is described with its code.
func (tx *Tx) DeletePack(job repo.JobID, id PackID) error { return errTODO }

// PacksOf is described with its code.
func (tx *Tx) PacksOf(job repo.JobID) iter.Seq2[Pack, error] { return nil }

// AppendAudit is described with its code.
func (tx *Tx) AppendAudit(r AuditRecord) (AuditRecord, error) { return AuditRecord{}, errTODO }

// Audit is described with its code.
func (tx *Tx) Audit(page Page) ([]AuditRecord, string, error) { return nil, "", errTODO }

// Open opens or makes the catalog file at path.
func Open(ctx context.Context, path string) (*Catalog, error) { return nil, errTODO }
