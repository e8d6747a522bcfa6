package fleet

import (
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Peer is the agent at the other end, as authorization found it. Nothing in it
// comes from the agent's own words.
type Peer struct {
	// Agent is its id and Name its name in the catalog.
	Agent repo.AgentID
	Name  string
	// Address it connected from.
	Address string
}

// Conn is the agent's stream. Send and Receive are each called by one goroutine
// at a time; both return an error once the stream has ended, which it does when
// Serve returns.
type Conn interface {
	// Send writes one message; it may block while the agent does not read.
	Send(m Outbound) error
	// Receive reads the next message. A message that makes no sense is Invalid.
	Receive() (Inbound, error)
}

// Inbound is a message from an agent: *Hello, *Heartbeat, *Inventory, *Accept,
// *Reject, *Progress, *LogLine or *Result.
type Inbound interface{ inbound() }

// Outbound is a message to an agent: *Welcome, *HeartbeatAck, *Offer, *Cancel,
// *ResultAck, *SetLogLevel or *InventoryRequest.
type Outbound interface{ outbound() }

// Hello opens a session.
type Hello struct {
	// Build is the program, with its capability number.
	Build catalog.Build
	// Inventory is what it found on its host.
	Inventory Inventory
	// Running are the attempts it is executing.
	Running []job.Ref
	// Witness is the newest state of the repository it has seen.
	Witness catalog.Witness
	// Allow is what its own file lets it do.
	Allow []string
}

// Heartbeat says that the agent lives.
type Heartbeat struct {
	// Time is the agent's clock.
	Time time.Time
	// Running are the attempts it is executing.
	Running []job.Ref
}

// Inventory is what an agent found. Claims, all of it.
type Inventory struct {
	// Host is what concerns the host.
	Host catalog.Inventory
	// Instances it looks after.
	Instances []NamedInstance
}

// NamedInstance is an instance by its name within the agent.
type NamedInstance struct {
	// Name within the agent, for example "main".
	Name string
	catalog.InstanceInventory
}

// Accept takes an offered attempt.
type Accept struct{ Ref job.Ref }

// Reject refuses an offered attempt.
type Reject struct {
	Ref job.Ref
	// Reason is for people.
	Reason string
	// Retryable: another try later can succeed.
	Retryable bool
}

// Progress tells how far an attempt is.
type Progress struct {
	Ref job.Ref
	job.Progress
}

// LogLine is a line of an attempt's log.
type LogLine struct {
	Ref job.Ref
	catalog.LogLine
}

// Result is the end of an attempt.
type Result struct {
	Ref job.Ref
	catalog.Result
	// Drill is the signed report of a drill, nil when there is none.
	Drill *catalog.DrillReport
}

func (*Hello) inbound()     {}
func (*Heartbeat) inbound() {}
func (*Inventory) inbound() {}
func (*Accept) inbound()    {}
func (*Reject) inbound()    {}
func (*Progress) inbound()  {}
func (*LogLine) inbound()   {}
func (*Result) inbound()    {}

// Welcome accepts a session.
type Welcome struct {
	// Build is the controller program.
	Build catalog.Build
	// Epoch of the controller.
	Epoch uint64
	// Heartbeat is how often to send one, Lease how long an attempt lives without.
	Heartbeat, Lease time.Duration
	// Abandon are attempts that the agent must stop.
	Abandon []job.Ref
	// Witness is the state of the repository for the agent to remember.
	Witness catalog.Witness
	// AgentName is the name under which the agent is known.
	AgentName string
}

// HeartbeatAck answers a heartbeat.
type HeartbeatAck struct {
	// Time is the controller's clock.
	Time time.Time
	// Witness is the state of the repository for the agent to remember.
	Witness catalog.Witness
}

// Offer is work for the agent.
type Offer struct {
	job.Offer
	// Grant are the keys for this attempt alone: it is not kept, written or logged.
	Grant repo.Grant
}

// Cancel stops an attempt within seconds.
type Cancel struct {
	Ref job.Ref
	// Reason is for the log and the attempt's error.
	Reason string
}

// ResultAck says that the result is journaled.
type ResultAck struct{ Ref job.Ref }

// SetLogLevel changes the agent's log level until it restarts.
type SetLogLevel struct{ Level string }

// InventoryRequest asks the agent to look again.
type InventoryRequest struct{}

func (*Welcome) outbound()          {}
func (*HeartbeatAck) outbound()     {}
func (*Offer) outbound()            {}
func (*Cancel) outbound()           {}
func (*ResultAck) outbound()        {}
func (*SetLogLevel) outbound()      {}
func (*InventoryRequest) outbound() {}
