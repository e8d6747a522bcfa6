// Package sessiontest has a small controller for tests of a whole agent: it
// enrolls whoever has its token, welcomes sessions, answers heartbeats and
// acknowledges results, on a real TCP port.
package sessiontest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Controller is the fake. Its methods may be called concurrently.
type Controller struct {
	tuskvaultv1.UnimplementedAgentServiceServer
	tuskvaultv1.UnimplementedEnrollmentServiceServer

	// Addr is host:port.
	Addr string
	// Hellos has each session's first message, Beats the first heartbeats.
	Hellos chan *tuskvaultv1.Hello
	Beats  chan *tuskvaultv1.Heartbeat

	root   *pki.Root
	issuer *pki.Issuer

	mu      sync.Mutex
	tokens  map[pki.TokenID][32]byte
	enrolls int
}

// Start runs a controller until the test ends.
func Start(t *testing.T) *Controller {
	t.Helper()
	root, err := pki.NewRoot(repo.NewID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.Issuer(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config, err := pki.ServerTLS(root.Certificate(), pki.NewServerCertificate(issuer, pki.LeafLife).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	l, err := rpc.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{Addr: l.Addr().String(), root: root, issuer: issuer, tokens: map[pki.TokenID][32]byte{},
		// More sessions than any test has, and as many heartbeats as a test may look at.
		Hellos: make(chan *tuskvaultv1.Hello, 100), Beats: make(chan *tuskvaultv1.Heartbeat, 100)}
	s := rpc.NewServer(rpc.ServerOptions{TLS: config, Log: zap.NewNop(), Public: []string{tuskvaultv1.EnrollmentService_Enroll_FullMethodName}})
	tuskvaultv1.RegisterAgentServiceServer(s, c)
	tuskvaultv1.RegisterEnrollmentServiceServer(s, c)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context())) // t's own ends before clean-up
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, s, l, 0) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("fake controller: %v", err)
		}
	})
	return c
}

// Token makes a join token.
func (c *Controller) Token() string {
	token := pki.NewJoinToken(c.root.Certificate())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[token.ID] = token.Hash()
	return token.Text()
}

// Enrolls tells how often an agent asked to be enrolled.
func (c *Controller) Enrolls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enrolls
}

// Enroll takes each token once.
func (c *Controller) Enroll(_ context.Context, r *tuskvaultv1.EnrollRequest) (*tuskvaultv1.EnrollResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enrolls++
	id, hash, err := pki.ParseCredential(r.GetToken())
	if err != nil {
		return nil, err
	}
	if kept, ok := c.tokens[id]; !ok || kept != hash {
		return nil, fmt.Errorf("join token %s: unknown or used: %w", id, errs.Denied)
	}
	agent := repo.NewID()
	chain, err := c.issuer.IssueAgent(r.GetCsr(), agent, time.Now(), pki.LeafLife)
	if err != nil {
		return nil, err
	}
	delete(c.tokens, id)
	return &tuskvaultv1.EnrollResponse{AgentId: agent.String(), Name: r.GetName(), CertificateChain: chain.Certificates,
		RootCertificate: c.root.Certificate().Raw, ExpireTime: timestamppb.New(chain.Leaf.NotAfter)}, nil
}

// Session welcomes an agent and answers it until the stream ends.
func (c *Controller) Session(st grpc.BidiStreamingServer[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	if err := st.Send(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Welcome{Welcome: &tuskvaultv1.Welcome{
		Epoch: 1, HeartbeatIntervalMs: 1000, LeaseMs: 60000, AgentName: "db1"}}}); err != nil {
		return err
	}
	c.Hellos <- first.GetHello()
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		var answer *tuskvaultv1.SessionResponse
		switch m := m.GetMessage().(type) {
		case *tuskvaultv1.SessionRequest_Heartbeat:
			select {
			case c.Beats <- m.Heartbeat:
			default:
			}
			answer = &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_HeartbeatAck{HeartbeatAck: &tuskvaultv1.HeartbeatAck{Time: timestamppb.Now()}}}
		case *tuskvaultv1.SessionRequest_Result:
			answer = &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_ResultAck{ResultAck: &tuskvaultv1.JobResultAck{Attempt: m.Result.GetAttempt()}}}
		default:
			continue
		}
		if err := st.Send(answer); err != nil {
			return err
		}
	}
}
