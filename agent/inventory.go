package agent

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/drill"
	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// probeTimeout bounds the look at one instance.
const probeTimeout = time.Minute

// inventor looks at the host and its instances.
type inventor struct {
	instances []postgres.Config
	toolDirs  []string
	dir       string
	drills    *drill.Ground
}

// Inventory looks at all instances at once, so that one that does not answer
// delays the others by nothing.
func (v inventor) Inventory(ctx context.Context) session.Inventory {
	facts := host.Look(v.dir)
	out := session.Inventory{Taken: time.Now(), Hostname: facts.Hostname, OperatingSystem: facts.OperatingSystem,
		Processors: facts.Processors, MemoryBytes: facts.MemoryBytes, FreeDiskBytes: facts.FreeDiskBytes,
		Instances: make([]session.Instance, len(v.instances))}
	var wg sync.WaitGroup
	for i, c := range v.instances {
		wg.Go(func() { out.Instances[i] = probe(ctx, c) })
	}
	for _, t := range postgres.FindTools(ctx, "pg_dump", v.toolDirs).Found {
		out.Tools = append(out.Tools, session.Tool{Name: t.Name, Path: t.Path, Version: int(t.Version)})
	}
	found := v.drills.Look(ctx)
	out.Drill = session.DrillInventory{Refusal: found.Refusal, FreeDiskBytes: found.FreeDiskBytes}
	for _, s := range found.Servers {
		out.Tools = append(out.Tools, session.Tool{Name: "postgres", Path: filepath.Join(s.Folder, "postgres"), Version: int(s.Version)})
		out.Drill.Servers = append(out.Drill.Servers, session.Server{Folder: s.Folder, Version: int(s.Version), Extensions: s.Extensions,
			ExtensionsKnown: s.ExtensionsKnown, Amcheck: s.Amcheck != ""})
	}
	wg.Wait()
	return out
}

// probe looks at one instance.
func probe(ctx context.Context, c postgres.Config) session.Instance {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	inv, err := postgres.Probe(ctx, c)
	if err != nil {
		return session.Instance{Name: c.Name, Error: err.Error()}
	}
	out := session.Instance{Name: c.Name, Version: int(inv.Version), SystemIdentifier: inv.SystemIdentifier, Timeline: inv.Timeline,
		InRecovery: inv.InRecovery, DataDirectory: inv.DataDirectory, LockTableSize: inv.LockTableSize,
		Roles: display(inv.Roles), Tablespaces: display(inv.Tablespaces), Available: extensions(inv.Available)}
	for _, d := range inv.Databases {
		if d.Template {
			continue
		}
		out.Databases = append(out.Databases, session.Database{Name: d.Name.Display(), SizeBytes: d.Size, Encoding: d.Encoding,
			LocaleProvider: d.LocaleProvider, Locale: d.Locale, CollationVersion: d.CollationVersion,
			AllowConnections: d.AllowConnections, Extensions: extensions(d.Extensions)})
	}
	return out
}

// display gives names as they travel.
func display(names []pg.Name) []string {
	var out []string
	for _, n := range names {
		out = append(out, n.Display())
	}
	return out
}

// extensions converts extensions.
func extensions(all []postgres.ExtensionInfo) []session.Extension {
	var out []session.Extension
	for _, e := range all {
		out = append(out, session.Extension{Name: e.Name, Version: e.Version})
	}
	return out
}
