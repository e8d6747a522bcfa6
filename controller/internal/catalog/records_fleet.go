package catalog

import (
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Labels are operator-given key-value pairs. What an agent claims about itself
// is never one of them.
type Labels map[string]string

// AgentState says what an agent's certificates are worth.
type AgentState int

// The states of an agent. The numbers are stored.
const (
	// AgentActive: its certificates listed in the record are good.
	AgentActive AgentState = 1
	// AgentRevoked: for good.
	AgentRevoked AgentState = 2
	// AgentReplaced: its host was rebuilt; no certificate is good until a token for its name is used.
	AgentReplaced AgentState = 3
)

// String gives the state in words.
func (s AgentState) String() string {
	switch s {
	case AgentActive:
		return "active"
	case AgentRevoked:
		return "revoked"
	case AgentReplaced:
		return "replaced"
	}
	return "unknown"
}

// Agent is one enrolled agent.
type Agent struct {
	// ID is given at enrollment and never changes, also when the host is replaced.
	ID repo.AgentID
	// Name is unique in the fleet and never changes.
	Name string
	// State says whether its certificates are worth anything.
	State AgentState
	// Labels come from the token or an operator.
	Labels Labels
	// Certificates that are good while State is AgentActive, oldest first, at most MaxCertificates.
	Certificates []Certificate
	// Enrolled is the time of the first enrollment.
	Enrolled time.Time
	// LastSeen is the last heartbeat that was written down; the live one is in fleet.
	LastSeen time.Time
	// Revoked is the time of revocation, zero when it is not revoked.
	Revoked time.Time
	// RevokedReason is what the operator said.
	RevokedReason string
	// Build is the program it last said it runs.
	Build Build
	// Address it last connected from.
	Address string
	// ClockSkew is its clock minus ours when last seen.
	ClockSkew time.Duration
	// Allow is what its own file lets it do.
	Allow []string
	// Witness is the newest state of the repository it has reported.
	Witness Witness
	// Drills tells that an admin lets drills of snapshots of any domain be held there.
	Drills bool
}

// MaxCertificates bounds the certificates kept for an agent or operator: the
// live one, the one being renewed, and room for answers that were lost.
const MaxCertificates = 4

// Certificate is a certificate that was issued.
type Certificate struct {
	// Fingerprint is the SHA-256 of its DER form.
	Fingerprint [32]byte
	// Issued and Expires bound its life.
	Issued, Expires time.Time
}

// Build tells which program an agent runs.
type Build struct {
	// Version, for example "0.1.0".
	Version string
	// Revision of its source.
	Revision string
	// Capability number.
	Capability uint32
	// Platform, for example "go1.26.8 linux/amd64".
	Platform string
}

// Witness is what somebody last saw of the repository's history.
type Witness struct {
	// Repository is its id.
	Repository repo.RepositoryID
	// Epoch of the controller.
	Epoch uint64
	// Number of the newest record of the catalog log, and its SHA-256.
	Number uint64
	Hash   [32]byte
	// Seen is when.
	Seen time.Time
}

// Inventory is what an agent found on its host, its instances left out. It
// informs and selects nothing.
type Inventory struct {
	// Taken is when, by the agent's clock.
	Taken time.Time
	// Hostname and OperatingSystem as the host says.
	Hostname, OperatingSystem string
	// Processors the agent may use.
	Processors int32
	// MemoryBytes of the host and FreeDiskBytes of the agent's state folder.
	MemoryBytes, FreeDiskBytes int64
	// Tools found.
	Tools []Tool
	// Drill is where and with what drills can be held.
	Drill DrillInventory
}

// DrillInventory is what an agent found out about holding drills.
type DrillInventory struct {
	// Refusal says why none can be held, or is empty.
	Refusal string
	// FreeDiskBytes where they would be.
	FreeDiskBytes int64
	// Servers are the installations of server programs.
	Servers []ServerInstallation
}

// ServerInstallation is one set of server programs.
type ServerInstallation struct {
	// Folder of initdb and postgres.
	Folder string
	// Version like server_version_num.
	Version int32
	// Extensions that could be created; ExtensionsKnown tells whether those are all.
	Extensions      []string
	ExtensionsKnown bool
	// Amcheck tells whether pg_amcheck is there.
	Amcheck bool
}

// Tool is a PostgreSQL client program.
type Tool struct {
	// Name, for example "pg_dump", and full Path.
	Name, Path string
	// Version like server_version_num.
	Version int32
}

// TokenID is the public id of a join token, 12 hex digits.
type TokenID string

// Token is a join token without its secret.
type Token struct {
	// ID is public.
	ID TokenID
	// SecretHash is the SHA-256 of the secret, which is nowhere.
	SecretHash [32]byte
	// Request is the client-chosen id of the request that made it.
	Request repo.ID
	// Name the agent must have, or empty.
	Name string
	// Agent is set when the token lets a rebuilt host return as this agent.
	Agent repo.AgentID
	// Labels the agent gets.
	Labels Labels
	// Created and Expires bound its life.
	Created, Expires time.Time
	// CreatedBy is an identity, for example "operator/admin".
	CreatedBy string
	// Used is when it was used, zero when it was not, and UsedBy by whom.
	Used   time.Time
	UsedBy repo.AgentID
}

// Instance is one PostgreSQL server that an agent looks after.
type Instance struct {
	// ID is given when first seen and bound to Agent.
	ID repo.InstanceID
	// Agent that has it.
	Agent repo.AgentID
	// AgentName is the agent's name, which never changes.
	AgentName string
	// Name within the agent, for example "main".
	Name string
	// Cluster that an operator joined it to, or empty.
	Cluster string
	// Domain of its chunks from now on.
	Domain seal.DomainID
	// OwnDomain is the domain made for it when first seen; Domain differs from it only in a cluster.
	OwnDomain seal.DomainID
	// Incarnation counts system identifiers seen under this instance, from 1.
	Incarnation uint32
	// SystemIdentifier last claimed; 0 when never known.
	SystemIdentifier uint64
	// FirstSeen and LastSeen by the controller's clock.
	FirstSeen, LastSeen time.Time
	// Inventory is what the agent last reported of it.
	Inventory InstanceInventory
}

// FullName gives "AGENT/INSTANCE".
func (i Instance) FullName() string { return i.AgentName + "/" + i.Name }

// InstanceInventory is what an agent reports of an instance. Claims, all of it.
type InstanceInventory struct {
	// Reachable tells whether it could be read; if not, Error says why.
	Reachable bool
	Error     string
	// ServerVersion is server_version_num.
	ServerVersion int32
	// SystemIdentifier of the cluster.
	SystemIdentifier uint64
	// Timeline it is on.
	Timeline uint32
	// InRecovery tells a standby.
	InRecovery bool
	// DataDirectory, empty when unknown.
	DataDirectory string
	// Databases that exist.
	Databases []DatabaseInventory
	// LockTableSize is max_locks_per_transaction x (max_connections + max_prepared_transactions).
	LockTableSize int64
	// Roles and Tablespaces that exist.
	Roles, Tablespaces []string
	// AvailableExtensions that could be created.
	AvailableExtensions []Extension
}

// DatabaseInventory describes one database.
type DatabaseInventory struct {
	// Name in display form.
	Name string
	// SizeBytes on disk, -1 when unknown.
	SizeBytes int64
	// Encoding, LocaleProvider, Locale and CollationVersion as recorded by the server.
	Encoding, LocaleProvider, Locale, CollationVersion string
	// AllowConnections is datallowconn.
	AllowConnections bool
	// Extensions created in it.
	Extensions []Extension
}

// Extension is an extension and a version of it.
type Extension struct{ Name, Version string }

// Cluster is a set of instances that an operator declared to be one.
type Cluster struct {
	// Name is unique.
	Name string
	// Domain that its members share.
	Domain seal.DomainID
	// Created is when, CreatedBy by whom.
	Created   time.Time
	CreatedBy string
}

// Role is what an operator may do.
type Role int

// The roles, each including those before it. The numbers are stored.
const (
	// RoleViewer looks.
	RoleViewer Role = 1
	// RoleOperator also backs up and restores.
	RoleOperator Role = 2
	// RoleAdmin does everything.
	RoleAdmin Role = 3
)

// String gives the role in words.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleOperator:
		return "operator"
	case RoleAdmin:
		return "admin"
	}
	return "unknown"
}

// Operator is a person or a script that drives the controller.
type Operator struct {
	// Name is unique, and part of the certificate.
	Name string
	// Role is looked up here at each call, never read from the certificate.
	Role Role
	// Certificates that are good, oldest first, at most MaxCertificates.
	Certificates []Certificate
	// Created is when, CreatedBy by whom.
	Created   time.Time
	CreatedBy string
	// Revoked is when it lost all rights, zero when it has them.
	Revoked time.Time
}
