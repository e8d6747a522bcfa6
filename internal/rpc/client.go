package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Dial prepares a connection to a controller; it connects at the first call and
// again when the connection breaks. The TLS configuration comes from pki. The
// caller closes the connection.
//
// A call on a connection whose other side could not prove who it is fails with
// Unauthenticated, and one that did not come about at all with Unavailable.
func Dial(address string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	h := &handshakes{TransportCredentials: credentials.NewTLS(config), refused: new(atomic.Pointer[error]), away: new(atomic.Pointer[error])}
	// The address goes to the dialer as it is: names are resolved for each connection, so a controller may move.
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(h),
		grpc.WithContextDialer(h.dial),
		grpc.WithAuthority(config.ServerName),
		grpc.WithChainUnaryInterceptor(h.unary),
		grpc.WithChainStreamInterceptor(h.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAlive, Timeout: keepAliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: handshakeTimeout,
			Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.5, MaxDelay: time.Minute}}),
		// No service configuration from outside: retries are the callers' to decide.
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}

// handshakes are TLS credentials that remember why no connection came about:
// gRPC reports a handshake that we refused like a network that is down, and
// both in words for programmers.
type handshakes struct {
	credentials.TransportCredentials
	// refused is nil after a handshake that went well.
	refused *atomic.Pointer[error]
	// away is nil after the other side could be reached.
	away *atomic.Pointer[error]
}

// dial reaches the other side and remembers why not.
func (h *handshakes) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		h.away.Store(&err)
		return nil, err
	}
	h.away.Store(nil)
	return conn, nil
}

// ClientHandshake does the handshake and remembers a refusal.
func (h *handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) || errors.Is(err, errs.Unauthenticated) {
		h.refused.Store(&err)
	} else if err == nil {
		h.refused.Store(nil)
	}
	return conn, info, err
}

// Clone copies the credentials; the copy shares the memory.
func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{TransportCredentials: h.TransportCredentials.Clone(), refused: h.refused, away: h.away}
}

// err translates an error that gRPC gave.
func (h *handshakes) err(err error) error {
	err = fromWire(err)
	if away := h.away.Load(); away != nil && errors.Is(err, errs.Unavailable) {
		return fmt.Errorf("%w: %w", *away, errs.Unavailable)
	}
	if refused := h.refused.Load(); refused != nil && errors.Is(err, errs.Unavailable) {
		return fmt.Errorf("the other side is not our controller: %w: %w", *refused, errs.Unauthenticated)
	}
	return err
}

// unary gives a call a deadline when it has none and translates its error.
func (h *handshakes) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, UnaryTimeout)
		defer cancel()
	}
	return h.err(next(ctx, method, req, reply, cc, opts...))
}

// stream translates the errors of a stream.
func (h *handshakes) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, h.err(err)
	}
	return &stream{s}, nil
}

// stream is a client's stream with translated errors.
type stream struct{ grpc.ClientStream }

// Header waits for the header.
func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, fromWire(err)
}

// CloseSend ends the client's side.
func (s *stream) CloseSend() error { return fromWire(s.ClientStream.CloseSend()) }

// SendMsg writes a message; io.EOF means that RecvMsg has the reason.
func (s *stream) SendMsg(m any) error { return fromWire(s.ClientStream.SendMsg(m)) }

// RecvMsg reads a message.
func (s *stream) RecvMsg(m any) error { return fromWire(s.ClientStream.RecvMsg(m)) }
