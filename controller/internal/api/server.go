package api

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/distrust"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/erase"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Catalog is where everything is kept. *catalog.Catalog implements it.
type Catalog interface {
	View(ctx context.Context, fn func(*catalog.Tx) error) error
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Jobs is what operators need of the job manager. *job.Manager implements it.
type Jobs interface {
	Create(ctx context.Context, spec job.Spec) (catalog.Job, error)
	Cancel(ctx context.Context, id repo.JobID, by, reason string) (catalog.Job, error)
	Get(ctx context.Context, id repo.JobID) (job.View, error)
	Watch(ctx context.Context, id repo.JobID, fn func(job.View) error) error
	Live(id repo.JobID) (job.Progress, bool)
	Running() []job.Running
	Revoke(ctx context.Context, agent repo.AgentID, reason string) error
}

// Trail takes audit records. *audit.Service implements it.
type Trail interface {
	Append(tx *catalog.Tx, r catalog.AuditRecord) error
	Record(ctx context.Context, r catalog.AuditRecord) error
	Refuse(ctx context.Context, r catalog.AuditRecord)
}

// Keys makes domains and turns their seal keys over.
type Keys interface {
	// NewDomain makes a domain with keys of its own, durably in the store.
	NewDomain(ctx context.Context) (seal.DomainID, error)
	// NewSealEpoch starts a new seal epoch of the domain, durably in the store.
	NewSealEpoch(ctx context.Context, domain seal.DomainID) error
}

// Manifests reads what is in a snapshot.
type Manifests interface {
	// Content opens the content part of the snapshot's object in the store.
	Content(ctx context.Context, s catalog.Snapshot) (*repo.Content, error)
}

// Leveler changes the level of a log. *logging.Logging implements it.
type Leveler interface {
	SetLevel(name string) error
}

// Facts are what status tells and only the controller's root knows.
type Facts struct {
	// Build is the controller program, Name its name, Started since when it runs.
	Build   catalog.Build
	Name    string
	Started time.Time
	// Repository and Epoch of this reign; Store without credentials.
	Repository repo.RepositoryID
	Epoch      uint64
	Store      string
	// ExportLag is the age of the oldest change not yet in the store.
	ExportLag func(ctx context.Context) (time.Duration, error)
	// StoredBytes is the size of all packs; nil counts what the snapshots added.
	StoredBytes func(ctx context.Context) (int64, error)
	// Protected tells whether the loss of one secret still leaves a way to open the
	// repository; nil does not ask.
	Protected func(ctx context.Context) (bool, error)
	// Head gives the newest record of the catalog log.
	Head func() catalog.Witness
}

// Deps are what the services stand on.
type Deps struct {
	Catalog   Catalog
	Jobs      Jobs
	Hub       *fleet.Hub
	Enroll    *enroll.Service
	Trail     Trail
	Keys      Keys
	Keyring   *keyring.Service
	Eraser    *erase.Service
	Distrust  *distrust.Service
	Manifests Manifests
	Plains    Plains
	Conns     *Connections
	Events    *event.Log
	// Deletion decides when forgotten snapshots go.
	Deletion Deletion
	// Checks runs checks of the repository, Measure counts what is in its store.
	Checks Checks
	// Prunes runs prunes of the repository.
	Prunes  Prunes
	Measure func(ctx context.Context) (*check.Measured, error)
	// Copies are other stores with the same repository; nil without.
	Copies Copies
	// Level changes the level of the controller's log.
	Level Leveler
	Facts Facts
	Log   *zap.Logger
}

// Register adds all services but ChunkService to a server whose interceptors
// include an Authorizer's.
func Register(r grpc.ServiceRegistrar, d Deps) {
	d.Log = d.Log.Named("api")
	tuskvaultv1.RegisterEnrollmentServiceServer(r, &enrollmentService{deps: d})
	tuskvaultv1.RegisterAgentServiceServer(r, &agentService{deps: d})
	tuskvaultv1.RegisterEventServiceServer(r, &eventService{deps: d})
	tuskvaultv1.RegisterFleetServiceServer(r, &fleetService{deps: d})
	tuskvaultv1.RegisterJobServiceServer(r, &jobService{deps: d})
	manifests := newManifestCache(d.Manifests)
	tuskvaultv1.RegisterSnapshotServiceServer(r, &snapshotService{deps: d, cache: manifests})
	tuskvaultv1.RegisterExportServiceServer(r, &exportService{deps: d, cache: manifests, open: make(chan struct{}, maxExports)})
	tuskvaultv1.RegisterRepositoryServiceServer(r, newRepositoryService(d))
	tuskvaultv1.RegisterDeletionServiceServer(r, &deletionService{deps: d})
	tuskvaultv1.RegisterKeyServiceServer(r, &keyService{deps: d})
	tuskvaultv1.RegisterStatusServiceServer(r, &statusService{deps: d})
}

// record makes an audit record of what a caller did.
func record(c Caller, action, object, detail string) catalog.AuditRecord {
	return catalog.AuditRecord{Actor: c.String(), Address: c.Address, Action: action, Object: object, Outcome: "ok", Detail: detail}
}
