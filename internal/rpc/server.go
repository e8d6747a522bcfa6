package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// Call describes a call that has ended, for access logs and metrics.
type Call struct {
	// Method is the full name, for example "/tuskvault.v1.JobService/GetJob".
	Method string
	// Peer is the caller; Known is false when it showed no certificate.
	Peer  pki.Peer
	Known bool
	// Address the call came from.
	Address string
	// Duration of the call, of a stream from its first to its last message.
	Duration time.Duration
	// Err is what the handler returned.
	Err error
}

// ServerOptions say what a server does around its handlers.
type ServerOptions struct {
	// TLS comes from pki.ServerTLS.
	TLS *tls.Config
	// Public lists full method names that may be called without a certificate.
	Public []string
	// Lenient lists full method names whose requests may hold what this version
	// does not know, since callers may be newer than the server. Requests of all
	// others, of streams their first message, must pass CheckKnown.
	Lenient []string
	// Authorize, if set, is asked before each call, after the peer is known; see
	// PeerFrom. Its error ends the call.
	Authorize func(ctx context.Context, method string) error
	// Done, if set, is called after each call.
	Done func(ctx context.Context, c Call)
	// Log takes panics of handlers and, at debug level, every call.
	Log *zap.Logger
}

// NewServer makes a gRPC server. Services are registered on it, then Serve runs it.
func NewServer(o ServerOptions, more ...grpc.ServerOption) *grpc.Server {
	g, last := &guard{o: o}, strict{o.Lenient}
	more = append(more, grpc.ChainUnaryInterceptor(last.unary), grpc.ChainStreamInterceptor(last.stream))
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(o.TLS)),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxHeaderListSize(maxHeaders), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepAlive, Timeout: keepAliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	}, more...)...)
}

// Listen opens a TCP listener.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// Serve serves until ctx ends, then lets running calls finish for at most grace
// and ends the rest. It returns nil after a stop that was asked for.
func Serve(ctx context.Context, s *grpc.Server, l net.Listener, grace time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		hard := time.AfterFunc(grace, s.Stop)
		defer hard.Stop()
		s.GracefulStop()
		return nil
	})
	return g.Wait()
}

// guard is what stands around every handler: identity, right, deadline, panic,
// and the translation of errors.
type guard struct{ o ServerOptions }

// enter finds out who calls and whether it may.
func (g *guard) enter(ctx context.Context, method string) (context.Context, error) {
	ctx, known, err := identify(ctx)
	if err != nil {
		return ctx, err
	}
	if !known && !slices.Contains(g.o.Public, method) {
		return ctx, fmt.Errorf("call %s: needs a client certificate: %w", method, errs.Unauthenticated)
	}
	if g.o.Authorize != nil {
		return ctx, g.o.Authorize(ctx, method)
	}
	return ctx, nil
}

// unary guards a call with one answer.
func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	began := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, serverUnaryTimeout)
		defer cancel()
	}
	ctx, err = g.enter(ctx, info.FullMethod)
	if err == nil {
		err = g.run(info.FullMethod, func() (err error) {
			resp, err = next(ctx, req)
			return err
		})
	}
	g.leave(ctx, info.FullMethod, began, err)
	if err != nil {
		return nil, toWire(err)
	}
	return resp, nil
}

// stream guards a stream. It has no deadline: keep-alive ends it when the peer is gone.
func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	began := time.Now()
	ctx, err := g.enter(ss.Context(), info.FullMethod)
	if err == nil {
		err = g.run(info.FullMethod, func() error { return next(srv, &serverStream{ServerStream: ss, ctx: ctx}) })
	}
	g.leave(ctx, info.FullMethod, began, err)
	return toWire(err)
}

// run calls a handler; a panic ends that call and not the fleet's controller.
func (g *guard) run(method string, fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			g.o.Log.Error("handler panicked", zap.String("method", method), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			err = errors.New("internal error; the controller's log has the details")
		}
	}()
	return fn()
}

// leave tells of a call that has ended.
func (g *guard) leave(ctx context.Context, method string, began time.Time, err error) {
	p, known := PeerFrom(ctx)
	c := Call{Method: method, Peer: p, Known: known, Address: RemoteAddress(ctx), Duration: time.Since(began), Err: err}
	if g.o.Done != nil {
		g.o.Done(ctx, c)
	}
	if e := g.o.Log.Check(zap.DebugLevel, "call ended"); e != nil {
		e.Write(zap.String("method", method), zap.Stringer("peer", p), zap.String("address", c.Address),
			zap.Duration("duration", c.Duration), zap.Error(err))
	}
}

// serverStream carries the peer's identity and translates errors.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context // a request object: it lives as long as the call
}

// Context gives the context with the peer's identity.
func (s *serverStream) Context() context.Context { return s.ctx }

// RecvMsg reads a message.
func (s *serverStream) RecvMsg(m any) error { return fromWire(s.ServerStream.RecvMsg(m)) }

// SendMsg writes a message.
func (s *serverStream) SendMsg(m any) error { return fromWire(s.ServerStream.SendMsg(m)) }
