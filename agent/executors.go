package agent

import (
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/transfer"
	"github.com/tuskvault/tuskvault/internal/version"
)

// executors are the kinds of work that this agent can do. A kind that is not
// here is refused when it is offered.
func executors(c *Config, conn grpc.ClientConnInterface) map[job.Kind]job.Executor {
	o := transfer.Options{Memory: int64(c.TransferMemory)}
	return map[job.Kind]job.Executor{
		job.KindBackup:  logical.NewBackup(c.find, logical.Uploads(conn, o), programVersion()),
		job.KindRestore: logical.NewRestore(c.find, logical.Downloads(conn, o)),
	}
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
