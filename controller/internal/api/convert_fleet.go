package api

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// toAgent gives an agent; live is what only the hub knows of it.
func toAgent(a catalog.Agent, live fleet.Presence, instances int) *tuskvaultv1.Agent {
	out := &tuskvaultv1.Agent{Id: a.ID.String(), Name: a.Name, State: toAgentState(a, live), Labels: toLabels(a.Labels), EnrollTime: toTime(a.Enrolled),
		LastSeenTime: toTime(a.LastSeen), Build: toBuild(a.Build), Address: a.Address, ClockSkew: durationpb.New(a.ClockSkew),
		Instances: int32(min(instances, 1<<30)), Allow: a.Allow, Drills: a.Drills}
	if !live.LastSeen.IsZero() {
		out.LastSeenTime, out.ClockSkew = toTime(live.LastSeen), durationpb.New(live.ClockSkew)
	}
	var newest time.Time
	for _, c := range a.Certificates {
		if c.Expires.After(newest) {
			newest = c.Expires
		}
	}
	out.CertificateExpireTime = toTime(newest)
	return out
}

func toAgentState(a catalog.Agent, live fleet.Presence) tuskvaultv1.AgentState {
	switch {
	case a.State == catalog.AgentRevoked:
		return tuskvaultv1.AgentState_AGENT_STATE_REVOKED
	case live.Online:
		return tuskvaultv1.AgentState_AGENT_STATE_ONLINE
	}
	return tuskvaultv1.AgentState_AGENT_STATE_OFFLINE
}

func toToken(t catalog.Token, usedBy string, now time.Time) *tuskvaultv1.JoinToken {
	state := "unused"
	switch {
	case !t.Used.IsZero():
		state = "used"
	case !now.Before(t.Expires):
		state = "expired"
	}
	return &tuskvaultv1.JoinToken{Id: string(t.ID), Name: t.Name, Labels: toLabels(t.Labels), CreateTime: toTime(t.Created), ExpireTime: toTime(t.Expires),
		CreatedBy: t.CreatedBy, State: state, UsedBy: usedBy}
}

// instanceFacts is what stands around an instance's own record.
type instanceFacts struct {
	online bool
	labels catalog.Labels
	last   catalog.Snapshot // newest complete snapshot, zero when there is none
	same   []string         // instances that claim the same system identifier
}

func toInstance(i catalog.Instance, f instanceFacts) *tuskvaultv1.Instance {
	return &tuskvaultv1.Instance{Id: i.ID.String(), Name: i.FullName(), Agent: i.AgentName, Cluster: i.Cluster, DomainId: fmt.Sprintf("%x", i.Domain[:]),
		AgentOnline: f.online, Inventory: toInstanceInventory(i.Name, i.Inventory), LastSnapshotId: toID(f.last.ID), LastSnapshotTime: toTime(f.last.Committed),
		Incarnation: i.Incarnation, Labels: toLabels(f.labels), SameSystemIdentifier: f.same}
}

func toInventory(v catalog.Inventory, instances []catalog.Instance) *tuskvaultv1.Inventory {
	out := &tuskvaultv1.Inventory{TakenTime: toTime(v.Taken), Hostname: v.Hostname, OperatingSystem: v.OperatingSystem, Processors: v.Processors,
		MemoryBytes: v.MemoryBytes, FreeDiskBytes: v.FreeDiskBytes}
	for _, i := range instances {
		out.Instances = append(out.Instances, toInstanceInventory(i.Name, i.Inventory))
	}
	for _, t := range v.Tools {
		out.Tools = append(out.Tools, &tuskvaultv1.Tool{Name: t.Name, Path: t.Path, VersionNum: t.Version})
	}
	out.Drill = toDrillInventory(v.Drill)
	return out
}

func toInstanceInventory(name string, v catalog.InstanceInventory) *tuskvaultv1.InstanceInventory {
	out := &tuskvaultv1.InstanceInventory{Name: name, Reachable: v.Reachable, Error: v.Error, ServerVersionNum: v.ServerVersion,
		SystemIdentifier: v.SystemIdentifier, Timeline: v.Timeline, InRecovery: v.InRecovery, DataDirectory: v.DataDirectory,
		LockTableSize: v.LockTableSize, Roles: v.Roles, Tablespaces: v.Tablespaces, AvailableExtensions: toExtensions(v.AvailableExtensions)}
	for _, d := range v.Databases {
		out.Databases = append(out.Databases, &tuskvaultv1.DatabaseInventory{Name: d.Name, SizeBytes: d.SizeBytes, Encoding: d.Encoding,
			LocaleProvider: d.LocaleProvider, Locale: d.Locale, CollationVersion: d.CollationVersion, AllowConnections: d.AllowConnections,
			Extensions: toExtensions(d.Extensions)})
	}
	return out
}

func toExtensions(list []catalog.Extension) []*tuskvaultv1.Extension {
	var out []*tuskvaultv1.Extension
	for _, e := range list {
		out = append(out, &tuskvaultv1.Extension{Name: e.Name, Version: e.Version})
	}
	return out
}

func fromInventory(v *tuskvaultv1.Inventory) fleet.Inventory {
	out := fleet.Inventory{Host: catalog.Inventory{Taken: fromTime(v.GetTakenTime()), Hostname: v.GetHostname(), OperatingSystem: v.GetOperatingSystem(),
		Processors: v.GetProcessors(), MemoryBytes: v.GetMemoryBytes(), FreeDiskBytes: v.GetFreeDiskBytes(),
		Drill: fromDrillInventory(v.GetDrill())}}
	for _, t := range v.GetTools() {
		out.Host.Tools = append(out.Host.Tools, catalog.Tool{Name: t.GetName(), Path: t.GetPath(), Version: t.GetVersionNum()})
	}
	for _, i := range v.GetInstances() {
		out.Instances = append(out.Instances, fleet.NamedInstance{Name: i.GetName(), InstanceInventory: fromInstanceInventory(i)})
	}
	return out
}

func fromInstanceInventory(i *tuskvaultv1.InstanceInventory) catalog.InstanceInventory {
	out := catalog.InstanceInventory{Reachable: i.GetReachable(), Error: i.GetError(), ServerVersion: i.GetServerVersionNum(),
		SystemIdentifier: i.GetSystemIdentifier(), Timeline: i.GetTimeline(), InRecovery: i.GetInRecovery(), DataDirectory: i.GetDataDirectory(),
		LockTableSize: i.GetLockTableSize(), Roles: i.GetRoles(), Tablespaces: i.GetTablespaces(), AvailableExtensions: fromExtensions(i.GetAvailableExtensions())}
	for _, d := range i.GetDatabases() {
		out.Databases = append(out.Databases, catalog.DatabaseInventory{Name: d.GetName(), SizeBytes: d.GetSizeBytes(), Encoding: d.GetEncoding(),
			LocaleProvider: d.GetLocaleProvider(), Locale: d.GetLocale(), CollationVersion: d.GetCollationVersion(), AllowConnections: d.GetAllowConnections(),
			Extensions: fromExtensions(d.GetExtensions())})
	}
	return out
}

func fromExtensions(list []*tuskvaultv1.Extension) []catalog.Extension {
	var out []catalog.Extension
	for _, e := range list {
		out = append(out, catalog.Extension{Name: e.GetName(), Version: e.GetVersion()})
	}
	return out
}
