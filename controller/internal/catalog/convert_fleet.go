package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
)

func toAgent(a Agent) *catalogpb.Agent {
	return &catalogpb.Agent{
		Id: opaque(a.ID), Name: a.Name, State: catalogpb.AgentState(a.State), Labels: a.Labels,
		Certificates: each(a.Certificates, toCertificate), Enrolled: stamp(a.Enrolled), LastSeen: stamp(a.LastSeen),
		Revoked: stamp(a.Revoked), RevokedReason: a.RevokedReason, Build: toBuild(a.Build), Address: a.Address,
		ClockSkew: span(a.ClockSkew), Allow: a.Allow, Witness: toWitness(a.Witness), Drills: a.Drills,
	}
}

func fromAgent(d *decoder, a *catalogpb.Agent) Agent {
	return Agent{
		ID: d.id("id", a.GetId()), Name: a.GetName(), State: AgentState(a.GetState()), Labels: a.GetLabels(),
		Certificates: each(a.GetCertificates(), d.certificate), Enrolled: moment(a.GetEnrolled()), LastSeen: moment(a.GetLastSeen()),
		Revoked: moment(a.GetRevoked()), RevokedReason: a.GetRevokedReason(), Build: fromBuild(a.GetBuild()), Address: a.GetAddress(),
		ClockSkew: a.GetClockSkew().AsDuration(), Allow: a.GetAllow(), Witness: d.witness(a.GetWitness()),
		Drills: a.GetDrills(),
	}
}

func toCertificate(c Certificate) *catalogpb.Certificate {
	return &catalogpb.Certificate{Fingerprint: opaque(c.Fingerprint), Issued: stamp(c.Issued), Expires: stamp(c.Expires)}
}

func (d *decoder) certificate(c *catalogpb.Certificate) Certificate {
	return Certificate{Fingerprint: d.hash("fingerprint", c.GetFingerprint()), Issued: moment(c.GetIssued()), Expires: moment(c.GetExpires())}
}

func toBuild(b Build) *catalogpb.Build {
	return &catalogpb.Build{Version: b.Version, Revision: b.Revision, Capability: b.Capability, Platform: b.Platform}
}

func fromBuild(b *catalogpb.Build) Build {
	return Build{Version: b.GetVersion(), Revision: b.GetRevision(), Capability: b.GetCapability(), Platform: b.GetPlatform()}
}

func toWitness(w Witness) *catalogpb.Witness {
	if w == (Witness{}) {
		return nil
	}
	return &catalogpb.Witness{Repository: opaque(w.Repository), Epoch: w.Epoch, Number: w.Number, Hash: opaque(w.Hash), Seen: stamp(w.Seen)}
}

func (d *decoder) witness(w *catalogpb.Witness) Witness {
	return Witness{Repository: d.id("witness", w.GetRepository()), Epoch: w.GetEpoch(), Number: w.GetNumber(),
		Hash: d.hash("witness", w.GetHash()), Seen: moment(w.GetSeen())}
}

func toInventory(i Inventory) *catalogpb.Inventory {
	return &catalogpb.Inventory{
		Taken: stamp(i.Taken), Hostname: i.Hostname, OperatingSystem: i.OperatingSystem, Processors: i.Processors,
		MemoryBytes: i.MemoryBytes, FreeDiskBytes: i.FreeDiskBytes,
		Tools: each(i.Tools, func(t Tool) *catalogpb.Tool {
			return &catalogpb.Tool{Name: t.Name, Path: t.Path, Version: t.Version}
		}),
		Drill: &catalogpb.DrillInventory{Refusal: i.Drill.Refusal, FreeDiskBytes: i.Drill.FreeDiskBytes,
			Servers: each(i.Drill.Servers, func(s ServerInstallation) *catalogpb.ServerInstallation {
				return &catalogpb.ServerInstallation{Folder: s.Folder, Version: s.Version, Extensions: s.Extensions,
					ExtensionsKnown: s.ExtensionsKnown, Amcheck: s.Amcheck}
			})},
	}
}

func fromInventory(_ *decoder, i *catalogpb.Inventory) Inventory {
	return Inventory{
		Taken: moment(i.GetTaken()), Hostname: i.GetHostname(), OperatingSystem: i.GetOperatingSystem(), Processors: i.GetProcessors(),
		MemoryBytes: i.GetMemoryBytes(), FreeDiskBytes: i.GetFreeDiskBytes(),
		Tools: each(i.GetTools(), func(t *catalogpb.Tool) Tool {
			return Tool{Name: t.GetName(), Path: t.GetPath(), Version: t.GetVersion()}
		}),
		Drill: DrillInventory{Refusal: i.GetDrill().GetRefusal(), FreeDiskBytes: i.GetDrill().GetFreeDiskBytes(),
			Servers: each(i.GetDrill().GetServers(), func(s *catalogpb.ServerInstallation) ServerInstallation {
				return ServerInstallation{Folder: s.GetFolder(), Version: s.GetVersion(), Extensions: s.GetExtensions(),
					ExtensionsKnown: s.GetExtensionsKnown(), Amcheck: s.GetAmcheck()}
			})},
	}
}

func toToken(t Token) *catalogpb.Token {
	return &catalogpb.Token{
		Id: string(t.ID), SecretHash: opaque(t.SecretHash), Request: opaque(t.Request), Name: t.Name, Agent: opaque(t.Agent),
		Labels: t.Labels, Created: stamp(t.Created), Expires: stamp(t.Expires), CreatedBy: t.CreatedBy, Used: stamp(t.Used), UsedBy: opaque(t.UsedBy),
	}
}

func fromToken(d *decoder, t *catalogpb.Token) Token {
	return Token{
		ID: TokenID(t.GetId()), SecretHash: d.hash("secret_hash", t.GetSecretHash()), Request: d.id("request", t.GetRequest()), Name: t.GetName(),
		Agent: d.id("agent", t.GetAgent()), Labels: t.GetLabels(), Created: moment(t.GetCreated()), Expires: moment(t.GetExpires()),
		CreatedBy: t.GetCreatedBy(), Used: moment(t.GetUsed()), UsedBy: d.id("used_by", t.GetUsedBy()),
	}
}

func toInstance(i Instance) *catalogpb.Instance {
	return &catalogpb.Instance{
		Id: opaque(i.ID), Agent: opaque(i.Agent), AgentName: i.AgentName, Name: i.Name, Cluster: i.Cluster,
		Domain: opaque(i.Domain), OwnDomain: opaque(i.OwnDomain), Incarnation: i.Incarnation, SystemIdentifier: i.SystemIdentifier,
		FirstSeen: stamp(i.FirstSeen), LastSeen: stamp(i.LastSeen), Inventory: toInstanceInventory(i.Inventory),
	}
}

func fromInstance(d *decoder, i *catalogpb.Instance) Instance {
	return Instance{
		ID: d.id("id", i.GetId()), Agent: d.id("agent", i.GetAgent()), AgentName: i.GetAgentName(), Name: i.GetName(), Cluster: i.GetCluster(),
		Domain: d.domain("domain", i.GetDomain()), OwnDomain: d.domain("own_domain", i.GetOwnDomain()), Incarnation: i.GetIncarnation(),
		SystemIdentifier: i.GetSystemIdentifier(), FirstSeen: moment(i.GetFirstSeen()), LastSeen: moment(i.GetLastSeen()),
		Inventory: fromInstanceInventory(i.GetInventory()),
	}
}

func toInstanceInventory(i InstanceInventory) *catalogpb.InstanceInventory {
	return &catalogpb.InstanceInventory{
		Reachable: i.Reachable, Error: i.Error, ServerVersion: i.ServerVersion, SystemIdentifier: i.SystemIdentifier, Timeline: i.Timeline,
		InRecovery: i.InRecovery, DataDirectory: i.DataDirectory, Databases: each(i.Databases, toDatabase), LockTableSize: i.LockTableSize,
		Roles: i.Roles, Tablespaces: i.Tablespaces, AvailableExtensions: each(i.AvailableExtensions, toExtension),
	}
}

func fromInstanceInventory(i *catalogpb.InstanceInventory) InstanceInventory {
	return InstanceInventory{
		Reachable: i.GetReachable(), Error: i.GetError(), ServerVersion: i.GetServerVersion(), SystemIdentifier: i.GetSystemIdentifier(),
		Timeline: i.GetTimeline(), InRecovery: i.GetInRecovery(), DataDirectory: i.GetDataDirectory(), Databases: each(i.GetDatabases(), fromDatabase),
		LockTableSize: i.GetLockTableSize(), Roles: i.GetRoles(), Tablespaces: i.GetTablespaces(),
		AvailableExtensions: each(i.GetAvailableExtensions(), fromExtension),
	}
}

func toDatabase(b DatabaseInventory) *catalogpb.DatabaseInventory {
	return &catalogpb.DatabaseInventory{
		Name: b.Name, SizeBytes: b.SizeBytes, Encoding: b.Encoding, LocaleProvider: b.LocaleProvider, Locale: b.Locale,
		CollationVersion: b.CollationVersion, AllowConnections: b.AllowConnections, Extensions: each(b.Extensions, toExtension),
	}
}

func fromDatabase(b *catalogpb.DatabaseInventory) DatabaseInventory {
	return DatabaseInventory{
		Name: b.GetName(), SizeBytes: b.GetSizeBytes(), Encoding: b.GetEncoding(), LocaleProvider: b.GetLocaleProvider(), Locale: b.GetLocale(),
		CollationVersion: b.GetCollationVersion(), AllowConnections: b.GetAllowConnections(), Extensions: each(b.GetExtensions(), fromExtension),
	}
}

func toExtension(e Extension) *catalogpb.Extension {
	return &catalogpb.Extension{Name: e.Name, Version: e.Version}
}

func fromExtension(e *catalogpb.Extension) Extension {
	return Extension{Name: e.GetName(), Version: e.GetVersion()}
}

func toCluster(c Cluster) *catalogpb.Cluster {
	return &catalogpb.Cluster{Name: c.Name, Domain: opaque(c.Domain), Created: stamp(c.Created), CreatedBy: c.CreatedBy}
}

func fromCluster(d *decoder, c *catalogpb.Cluster) Cluster {
	return Cluster{Name: c.GetName(), Domain: d.domain("domain", c.GetDomain()), Created: moment(c.GetCreated()), CreatedBy: c.GetCreatedBy()}
}

func toOperator(o Operator) *catalogpb.Operator {
	return &catalogpb.Operator{Name: o.Name, Role: catalogpb.Role(o.Role), Certificates: each(o.Certificates, toCertificate),
		Created: stamp(o.Created), CreatedBy: o.CreatedBy, Revoked: stamp(o.Revoked)}
}

func fromOperator(d *decoder, o *catalogpb.Operator) Operator {
	return Operator{Name: o.GetName(), Role: Role(o.GetRole()), Certificates: each(o.GetCertificates(), d.certificate),
		Created: moment(o.GetCreated()), CreatedBy: o.GetCreatedBy(), Revoked: moment(o.GetRevoked())}
}
