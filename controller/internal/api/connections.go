package api

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// sweepEvery is how often each live connection's identity is looked up again.
// Revoking cuts at once; this finds what was revoked on any other way.
const sweepEvery = 3 * time.Second

// Connections knows the live connections and whose they are, so that taking
// away an identity's rights ends what it has open: a long upload asks nobody
// again once it runs.
type Connections struct {
	mu   sync.Mutex
	live map[*conn]struct{}
}

// NewConnections makes an empty registry.
func NewConnections() *Connections { return &Connections{live: make(map[*conn]struct{})} }

// wrap gives server credentials that register each connection after its
// handshake.
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
		out = append(out, conn)
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

// ServerHandshake does the handshake and registers the connection if it has an identity.
func (r *registering) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	inner, info, err := r.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return inner, info, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok || len(tlsInfo.State.PeerCertificates) == 0 {
		return inner, info, nil
	}
	id, err := pki.PeerOfConnection(tlsInfo.State)
	if err != nil {
		return inner, info, nil //nolint:nilerr // no identity to register; authorization refuses its calls one by one, with the reason
	}
	c := &conn{Conn: inner, conns: r.conns, peer: id}
	r.conns.mu.Lock()
	r.conns.live[c] = struct{}{}
	r.conns.mu.Unlock()
	return c, info, nil
}

// Clone copies the credentials; the copy registers at the same place.
func (r *registering) Clone() credentials.TransportCredentials {
	return &registering{r.TransportCredentials.Clone(), r.conns}
}

// conn is a registered connection.
type conn struct {
	net.Conn
	conns *Connections
	peer  pki.Peer
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	delete(c.conns.live, c)
	c.conns.mu.Unlock()
	return c.Conn.Close()
}
