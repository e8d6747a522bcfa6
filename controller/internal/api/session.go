package api

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// agentService is AgentService.
type agentService struct {
	tuskvaultv1.UnimplementedAgentServiceServer
	deps Deps
}

// Session serves one agent's stream.
func (s *agentService) Session(stream grpc.BidiStreamingServer[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]) error {
	c, err := CallerFrom(stream.Context())
	if err != nil {
		return err
	}
	if c.Agent.IsZero() {
		return fmt.Errorf("open session: the caller is no agent: %w", errs.Denied)
	}
	return s.deps.Hub.Serve(stream.Context(), fleet.Peer{Agent: c.Agent, Name: c.Name, Address: c.Address}, &sessionConn{stream})
}

// sessionConn speaks the hub's words over the wire.
type sessionConn struct {
	stream grpc.BidiStreamingServer[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]
}

var _ fleet.Conn = (*sessionConn)(nil)

// Send writes one message.
func (c *sessionConn) Send(m fleet.Outbound) error {
	wire, err := toSession(m)
	if err != nil {
		return err
	}
	return c.stream.Send(wire)
}

// Receive reads the next message.
func (c *sessionConn) Receive() (fleet.Inbound, error) {
	wire, err := c.stream.Recv()
	if err != nil {
		return nil, err
	}
	return fromSession(wire)
}
