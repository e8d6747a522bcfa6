package session

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Inventory is what is found on the host. Names are in display form.
type Inventory struct {
	Taken           time.Time
	Hostname        string
	OperatingSystem string
	Processors      int
	MemoryBytes     int64
	FreeDiskBytes   int64
	Instances       []Instance
	Tools           []Tool
	Drill           DrillInventory
}

// DrillInventory tells where and with what drills can be held.
type DrillInventory struct {
	// Refusal says why none can be held, or is empty.
	Refusal       string
	FreeDiskBytes int64
	Servers       []Server
}

// Server is an installation of server programs.
type Server struct {
	Folder  string
	Version int
	// Extensions that could be created; ExtensionsKnown tells whether those are all.
	Extensions      []string
	ExtensionsKnown bool
	Amcheck         bool
}

// Instance describes one postmaster.
type Instance struct {
	Name string
	// Error says why it could not be read; the rest may then be empty.
	Error            string
	Version          int
	SystemIdentifier uint64
	Timeline         uint32
	InRecovery       bool
	DataDirectory    string
	Databases        []Database
	LockTableSize    int64
	Roles            []string
	Tablespaces      []string
	Available        []Extension
}

// Database describes one database.
type Database struct {
	Name string
	// SizeBytes is -1 when the role may not read it.
	SizeBytes        int64
	Encoding         string
	LocaleProvider   string
	Locale           string
	CollationVersion string
	AllowConnections bool
	Extensions       []Extension
}

// Extension is an extension and a version of it.
type Extension struct{ Name, Version string }

// Tool is a PostgreSQL client program.
type Tool struct {
	Name, Path string
	Version    int
}

// Inventor looks at the host. Inventory may take as long as ctx lets it; an
// instance that cannot be reached is part of the answer and no error.
type Inventor interface {
	Inventory(ctx context.Context) Inventory
}

// Times of the inventory.
const (
	// inventoryEvery is how often the host is looked at.
	inventoryEvery = 5 * time.Minute
	// inventoryTimeout bounds one look.
	inventoryTimeout = 2 * time.Minute
	// inventoryResend is when an unchanged inventory is sent again.
	inventoryResend = time.Hour
	// inventoryFirst is how long the first hello waits for the first look.
	inventoryFirst = 20 * time.Second
)

// maxInventory bounds the message, with room below rpc's bound for the rest of a hello.
const maxInventory = 3 << 20

// stock keeps the newest inventory. A look at a slow instance delays nothing but itself.
type stock struct {
	inventor Inventor
	log      *zap.Logger
	// kick asks for a look now; one place, for a second asking adds nothing.
	kick chan struct{}
	// first is closed when there is an inventory.
	first chan struct{}
	// changed is called when there is something to send.
	changed func()

	mu       sync.Mutex
	current  *tuskvaultv1.Inventory
	digest   [32]byte
	sent     [32]byte
	sentTime time.Time
}

func newStock(inventor Inventor, changed func(), log *zap.Logger) *stock {
	return &stock{inventor: inventor, log: log.Named("inventory"), kick: make(chan struct{}, 1), first: make(chan struct{}), changed: changed}
}

// Run looks at the host until ctx ends.
func (s *stock) Run(ctx context.Context) error {
	for first := true; ; first = false {
		look, cancel := context.WithTimeout(ctx, inventoryTimeout)
		inventory := s.inventor.Inventory(look)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		s.put(inventoryToWire(inventory))
		if first {
			close(s.first)
		}
		s.changed()
		// Jitter: agents started together by a fleet tool do not stay in step.
		wait := time.NewTimer(inventoryEvery + rand.N(inventoryEvery/5))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-s.kick:
			s.force()
		case <-wait.C:
		}
		wait.Stop()
	}
}

// put replaces the inventory.
func (s *stock) put(m *tuskvaultv1.Inventory) {
	// What always changes does not count as a change.
	plain := proto.CloneOf(m)
	plain.TakenTime, plain.FreeDiskBytes = nil, plain.FreeDiskBytes>>30
	if d := plain.GetDrill(); d != nil {
		d.FreeDiskBytes >>= 30
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(plain)
	if err != nil {
		s.log.Error("inventory not encoded", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.digest = m, sha256.Sum256(b)
}

// force makes the next look be sent even if nothing changed.
func (s *stock) force() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sentTime = time.Time{}
}

// ask asks for a look now.
func (s *stock) ask() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// hello gives the inventory for a new session; it waits a little for the first one.
func (s *stock) hello(ctx context.Context) *tuskvaultv1.Inventory {
	wait := time.NewTimer(inventoryFirst)
	defer wait.Stop()
	select {
	case <-s.first:
	case <-wait.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return &tuskvaultv1.Inventory{TakenTime: timestamppb.Now()}
	}
	s.sent, s.sentTime = s.digest, time.Now()
	return s.current
}

// next gives the inventory if it has to be sent.
func (s *stock) next(now time.Time) *tuskvaultv1.Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.digest == s.sent && now.Sub(s.sentTime) < inventoryResend {
		return nil
	}
	s.sent, s.sentTime = s.digest, now
	return s.current
}

// inventoryToWire converts, and drops what would make the message too large. What
// PostgreSQL and the host call things may be in any encoding, and a message with
// one text that is not UTF-8 could not be sent at all.
func inventoryToWire(v Inventory) *tuskvaultv1.Inventory {
	m := &tuskvaultv1.Inventory{TakenTime: timestamppb.New(v.Taken), Hostname: text(v.Hostname), OperatingSystem: text(v.OperatingSystem),
		Processors: int32(v.Processors), MemoryBytes: v.MemoryBytes, FreeDiskBytes: v.FreeDiskBytes}
	for _, t := range v.Tools {
		m.Tools = append(m.Tools, &tuskvaultv1.Tool{Name: text(t.Name), Path: text(t.Path), VersionNum: int32(t.Version)})
	}
	m.Drill = &tuskvaultv1.DrillInventory{Refusal: text(v.Drill.Refusal), FreeDiskBytes: v.Drill.FreeDiskBytes}
	for _, s := range v.Drill.Servers {
		m.Drill.Servers = append(m.Drill.Servers, &tuskvaultv1.ServerInstallation{Folder: text(s.Folder), VersionNum: int32(s.Version),
			Extensions: texts(s.Extensions), ExtensionsKnown: s.ExtensionsKnown, Amcheck: s.Amcheck})
	}
	for _, i := range v.Instances {
		m.Instances = append(m.Instances, instanceToWire(i))
	}
	for _, drop := range []func(*tuskvaultv1.InstanceInventory){
		func(i *tuskvaultv1.InstanceInventory) { i.AvailableExtensions = nil },
		func(i *tuskvaultv1.InstanceInventory) { i.Roles = nil },
		func(i *tuskvaultv1.InstanceInventory) {
			for _, d := range i.Databases {
				d.Extensions = nil
			}
		},
		func(i *tuskvaultv1.InstanceInventory) { i.Databases = nil },
	} {
		if proto.Size(m) <= maxInventory {
			break
		}
		for _, i := range m.Instances {
			drop(i)
		}
	}
	return m
}

func instanceToWire(i Instance) *tuskvaultv1.InstanceInventory {
	m := &tuskvaultv1.InstanceInventory{Name: i.Name, Reachable: i.Error == "", Error: text(i.Error), ServerVersionNum: int32(i.Version),
		SystemIdentifier: i.SystemIdentifier, Timeline: i.Timeline, InRecovery: i.InRecovery, DataDirectory: text(i.DataDirectory),
		LockTableSize: i.LockTableSize, Roles: texts(i.Roles), Tablespaces: texts(i.Tablespaces), AvailableExtensions: extensionsToWire(i.Available)}
	for _, d := range i.Databases {
		m.Databases = append(m.Databases, &tuskvaultv1.DatabaseInventory{Name: text(d.Name), SizeBytes: d.SizeBytes, Encoding: text(d.Encoding),
			LocaleProvider: text(d.LocaleProvider), Locale: text(d.Locale), CollationVersion: text(d.CollationVersion),
			AllowConnections: d.AllowConnections, Extensions: extensionsToWire(d.Extensions)})
	}
	return m
}

func extensionsToWire(all []Extension) []*tuskvaultv1.Extension {
	var out []*tuskvaultv1.Extension
	for _, e := range all {
		out = append(out, &tuskvaultv1.Extension{Name: text(e.Name), Version: text(e.Version)})
	}
	return out
}

func texts(all []string) []string {
	var out []string
	for _, s := range all {
		out = append(out, text(s))
	}
	return out
}
