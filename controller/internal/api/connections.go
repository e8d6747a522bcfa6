package api

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// sweepEvery is how often each live connection's identity is looked up again.
// Revoking cuts at once; this finds what was revoked on any other way.
const sweepEvery = 3 * time.Second

// Bounds of connections, each of one sort. Whoever comes when one is reached is
// let in and the oldest of the same sort is closed: an honest one needs its
// connection for milliseconds before it is known, and opens a new one because it
// has lost the one before.
type Bounds struct {
	// Handshakes bounds connections that have not shown yet who they are.
	Handshakes int
	// Strangers bounds connections without a certificate: hosts that enroll and
	// health checks.
	Strangers int
	// PerAgent and PerOperator bound those of one identity.
	PerAgent, PerOperator int
}

// DefaultBounds are those of a controller: handshakes are those of a fleet of a thousand that comes back at
// once. An agent has one connection for its session, one for chunks, and for
// moments those before them; the scripts of an operator may each have their own.
func DefaultBounds() Bounds {
	return Bounds{Handshakes: 1024, Strangers: 128, PerAgent: 16, PerOperator: 256}
}

// strangerLife is long enough for an enrollment whose store is slow, strangerBytes
// for many health checks: they are read before anybody can look at them, so they
// bound the memory that strangers take.
const (
	strangerLife  = 2 * time.Minute
	strangerBytes = 256 << 10
)

// Connections knows the live connections and whose they are, so that there is a
// bound of each sort, and that taking away an identity's rights ends what it has
// open: a long upload asks nobody again once it runs.
type Connections struct {
	bounds Bounds

	mu    sync.Mutex
	count uint64 // of all that ever came, for their order
	live  map[*conn]struct{}
	sorts map[sort]int // live ones of each sort
}

// NewConnections makes an empty registry.
func NewConnections(b Bounds) *Connections {
	return &Connections{bounds: b, live: make(map[*conn]struct{}), sorts: make(map[sort]int)}
}

// sort is what a bound is for: a stage, and once it is known, whose it is.
type sort struct {
	stage stage
	name  string
}

type stage int

const (
	handshaking stage = iota
	stranger
	known
)

// limit is how many of a sort there may be.
func (b Bounds) limit(s sort, kind pki.PeerKind) int {
	switch {
	case s.stage == handshaking:
		return b.Handshakes
	case s.stage == stranger:
		return b.Strangers
	case kind == pki.Agent:
		return b.PerAgent
	}
	return b.PerOperator
}

// Strangers counts the live connections without a certificate.
func (c *Connections) Strangers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sorts[sort{stage: stranger}]
}

// enter makes a connection, new or not, one of a sort.
func (c *Connections) enter(conn *conn, s sort) {
	if oldest := c.replace(conn, s); oldest != nil {
		_ = oldest.Conn.Close() // closing is the purpose
	}
}

// replace does it and gives the connection that has to go for it, forgotten
// already so that no other newcomer counts on it.
func (c *Connections) replace(conn *conn, s sort) (oldest *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.closed {
		return nil
	}
	if _, ok := c.live[conn]; ok {
		c.leaveLocked(conn)
	}
	if c.sorts[s] >= c.bounds.limit(s, conn.peer.Kind) {
		for other := range c.live {
			if other.sort == s && (oldest == nil || other.number < oldest.number) {
				oldest = other
			}
		}
	}
	if oldest != nil {
		c.forgetLocked(oldest)
	}
	c.count++
	conn.sort, conn.number = s, c.count
	c.live[conn] = struct{}{}
	c.sorts[s]++
	return oldest
}

// forgetLocked takes a connection out for good.
func (c *Connections) forgetLocked(conn *conn) {
	if conn.closed {
		return
	}
	conn.closed = true
	if conn.timer != nil {
		conn.timer.Stop()
	}
	c.leaveLocked(conn)
}

func (c *Connections) leaveLocked(conn *conn) {
	delete(c.live, conn)
	if c.sorts[conn.sort]--; c.sorts[conn.sort] == 0 {
		delete(c.sorts, conn.sort)
	}
}

// wrap gives server credentials that register each connection as soon as it is
// there, and its identity after its handshake.
func (c *Connections) wrap(inner credentials.TransportCredentials) credentials.TransportCredentials {
	return &registering{inner, c}
}

// Cut closes the connections that showed a certificate of this agent or operator.
func (c *Connections) Cut(kind pki.PeerKind, match func(pki.Peer) bool) {
	for _, conn := range c.list() {
		if conn.peer.Kind == kind && match(conn.peer) {
			_ = conn.Close() // closing is the purpose, and closing twice is no harm
		}
	}
}

// list copies the live connections that showed a certificate, so that no lock
// is held while they are looked up or closed.
func (c *Connections) list() []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*conn
	for conn := range c.live {
		if conn.sort.stage == known {
			out = append(out, conn)
		}
	}
	return out
}

// RunSweep looks every live connection's identity up again, every few seconds,
// and closes those that have lost their rights, until ctx ends.
func (a *Authorizer) RunSweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.sweep(ctx)
		}
	}
}

// sweep closes connections whose identity is worth nothing any more. A catalog
// that cannot be asked closes nothing.
func (a *Authorizer) sweep(ctx context.Context) {
	for _, conn := range a.conns.list() {
		_, err := a.lookUp(ctx, conn.peer)
		if kind := errs.KindOf(err); kind == errs.Denied || kind == errs.Unauthenticated {
			_ = conn.Close() // see Cut
		}
	}
}

// registering is credentials that register connections.
type registering struct {
	credentials.TransportCredentials
	conns *Connections
}

// ServerHandshake does the handshake. gRPC calls it for each connection right
// after it was accepted, in a goroutine and with a deadline of its own.
func (r *registering) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c := &conn{Conn: raw, conns: r.conns}
	c.left.Store(strangerBytes)
	r.conns.enter(c, sort{stage: handshaking})
	inner, info, err := r.TransportCredentials.ServerHandshake(c)
	if err != nil {
		_ = c.Close() // the handshake's error is the one that counts
		return inner, info, err
	}
	if tlsInfo, ok := info.(credentials.TLSInfo); ok && len(tlsInfo.State.PeerCertificates) > 0 {
		// One that is odd stays a stranger; authorization refuses its calls one by one, with the reason.
		if id, err := pki.PeerOfConnection(tlsInfo.State); err == nil {
			c.peer = id
			c.left.Store(math.MaxInt64)
			r.conns.enter(c, sort{known, id.String()})
			return inner, info, nil
		}
	}
	r.conns.enter(c, sort{stage: stranger})
	c.expire(strangerLife)
	return inner, info, nil
}

// Clone copies the credentials; the copy registers at the same place.
func (r *registering) Clone() credentials.TransportCredentials {
	return &registering{r.TransportCredentials.Clone(), r.conns}
}

// conn is a registered connection, below TLS.
type conn struct {
	net.Conn
	conns *Connections
	left  atomic.Int64 // bytes that may still be read
	peer  pki.Peer     // set before it is registered as known

	// Guarded by the registry.
	sort   sort
	number uint64
	closed bool
	timer  *time.Timer
}

// errTalkative ends a stranger that sends more than anybody without a
// certificate has to say.
var errTalkative = fmt.Errorf("a caller without a certificate sent more than %d bytes: %w", strangerBytes, errs.Exhausted)

// Read reads no more than the connection is allowed.
func (c *conn) Read(b []byte) (int, error) {
	left := c.left.Load()
	if left <= 0 {
		return 0, errTalkative
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), left)])
	if left != math.MaxInt64 {
		c.left.Add(-int64(n))
	}
	return n, err
}

// expire closes the connection after a time.
func (c *conn) expire(after time.Duration) {
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	if !c.closed {
		c.timer = time.AfterFunc(after, func() { _ = c.Close() }) // closing is the purpose
	}
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	c.conns.forgetLocked(c)
	c.conns.mu.Unlock()
	return c.Conn.Close()
}
