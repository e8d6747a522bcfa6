package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// peerKey is the context key of the peer's identity, the only value that
// contexts of calls carry.
type peerKey struct{}

// WithPeer gives a context that carries an identity. Servers made by NewServer
// do this for every call; it is exported for tests of handlers.
func WithPeer(ctx context.Context, p pki.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom tells who calls; false when the caller showed no certificate.
func PeerFrom(ctx context.Context) (pki.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(pki.Peer)
	return p, ok
}

// RemoteAddress gives the address a call comes from, "" when unknown.
func RemoteAddress(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// identify reads the identity of the connection a call came in on. A
// certificate that has expired since the handshake is refused, so that a
// connection kept open for ever does not outlive its right to be there.
func identify(ctx context.Context) (context.Context, bool, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return ctx, false, nil
	}
	id, err := pki.PeerOfConnection(info.State)
	if err != nil {
		return ctx, false, err
	}
	if time.Now().After(id.NotAfter) {
		return ctx, false, fmt.Errorf("certificate of %s: expired at %s: %w", id, id.NotAfter.UTC().Format(time.RFC3339), errs.Unauthenticated)
	}
	return WithPeer(ctx, id), true, nil
}
