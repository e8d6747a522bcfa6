package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// Dial prepares a connection to a controller; it connects at the first call and
// again when the connection breaks. The TLS configuration comes from pki. The
// caller closes the connection.
func Dial(address string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	// The address goes to the dialer as it is: names are resolved for each connection, so a controller may move.
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithAuthority(config.ServerName),
		grpc.WithChainUnaryInterceptor(clientUnary),
		grpc.WithChainStreamInterceptor(clientStream),
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

// clientUnary gives a call a deadline when it has none and translates its error.
func clientUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, UnaryTimeout)
		defer cancel()
	}
	return fromWire(next(ctx, method, req, reply, cc, opts...))
}

// clientStream translates the errors of a stream.
func clientStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, fromWire(err)
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
