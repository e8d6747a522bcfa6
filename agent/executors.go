package agent

import (
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/drill"
	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
	"github.com/tuskvault/tuskvault/internal/version"
)

// executors are the kinds of work that this agent can do. A kind that is not
// here is refused when it is offered.
func executors(c *Config, conn grpc.ClientConnInterface, drills *drill.Ground) map[job.Kind]job.Executor {
	o := transferOptions(c)
	return map[job.Kind]job.Executor{
		job.KindBackup:  logical.NewBackup(c.find, logical.Uploads(conn, o), programVersion()),
		job.KindRestore: logical.NewRestore(c.find, logical.Downloads(conn, o)),
		job.KindDrill:   drills.Execute,
	}
}

func transferOptions(c *Config) transfer.Options {
	return transfer.Options{Memory: int64(c.TransferMemory)}
}

// ground makes where drills are held. Reports are signed with the key of the
// newest certificate.
func ground(c *Config, conn grpc.ClientConnInterface, identity *pki.Holder, log *zap.Logger) *drill.Ground {
	return drill.New(drill.Options{Base: c.drillDir(), User: c.Drill.User, Preload: c.Drill.Preload, MinFree: int64(c.Drill.MinFree),
		ToolDirs: c.ToolDirs, Instances: c.instances(), Download: logical.Downloads(conn, transferOptions(c)), Version: programVersion(), Log: log,
		Self:       func() repo.AgentID { return identity.Current().Peer.Agent },
		Repository: func() repo.RepositoryID { return identity.Current().Peer.Repository },
		Sign: func(statement []byte) (report.Signed, error) {
			i := identity.Current()
			return report.Sign(statement, i.Key, i.Leaf.Raw)
		}})
}

// find gives the configuration of an instance by its name.
func (c *Config) find(name string) (postgres.Config, bool) {
	for _, i := range c.instances() {
		if i.Name == name {
			return i, true
		}
	}
	return postgres.Config{}, false
}

// programVersion stands in manifests.
func programVersion() string { return version.Get().Version }
