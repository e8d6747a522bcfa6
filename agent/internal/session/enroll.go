package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/version"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Enrollment is what an agent needs to enroll.
type Enrollment struct {
	// Controller is its address, host:port.
	Controller string
	// Dial has further options of the connection.
	Dial []grpc.DialOption
	// Token is the join token; it works once.
	Token pki.JoinToken
	// Name the agent wants. With Guessed it is only the host's, and a token that
	// is for another name wins.
	Name    string
	Guessed bool
	// Build is this program.
	Build version.Build
	// IdentityPath is where the identity is to be kept.
	IdentityPath string
	State        *State
	Log          *zap.Logger
}

// Enroll gets the agent's first certificate. In this order:
//
//  1. A key is made in memory. A crash leaves nothing.
//  2. The controller is called. It proves by its chain that its root is the one
//     in the token before the token is sent. A crash after it has answered, and
//     before step 3, leaves a used token and no identity: "tuskctl agent replace".
//  3. Key and chain are saved in one file, durably, and then the name.
//
// A controller that cannot be reached is tried again until ctx ends; a refusal
// is final.
func Enroll(ctx context.Context, e Enrollment) (*pki.Identity, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return nil, err
	}
	var answer *tuskvaultv1.EnrollResponse
	for failures := 0; ; failures++ {
		if answer, err = e.call(ctx, csr); err == nil {
			break
		}
		if e.Guessed && errors.Is(err, errs.Denied) {
			e.Name, e.Guessed = "", false // the token's own name, if it has one
			continue
		}
		if !errors.Is(err, errs.Unavailable) && !errors.Is(err, errs.Busy) || ctx.Err() != nil {
			return nil, fmt.Errorf("enroll at %s: %w", e.Controller, err)
		}
		wait := backoff(failures)
		e.Log.Warn("enrollment not possible now", logging.Address(e.Controller), zap.Error(err), zap.Duration("retry_in", wait))
		if !sleep(ctx, wait) {
			return nil, fmt.Errorf("enroll at %s: %w", e.Controller, err)
		}
	}
	identity, err := pki.NewIdentity(key, answer.GetCertificateChain(), answer.GetRootCertificate(), time.Now())
	if err != nil {
		return nil, fmt.Errorf("enroll at %s: %w", e.Controller, err)
	}
	if pki.FingerprintOf(identity.Root) != e.Token.Root || identity.Peer.Kind != pki.Agent {
		return nil, fmt.Errorf("enroll at %s: the controller gave a certificate of %s under another root: %w", e.Controller, identity.Peer, errs.Unauthenticated)
	}
	if err := identity.Save(e.IdentityPath); err != nil {
		return nil, err
	}
	if err := e.State.Enrolled(e.Controller, answer.GetName(), e.Token.ID.String()); err != nil {
		return nil, err
	}
	e.Log.Info("enrolled", logging.Agent(answer.GetName()), logging.AgentID(repo.AgentID(identity.Peer.Agent)), logging.Address(e.Controller),
		zap.Time("expires", identity.Leaf.NotAfter))
	return identity, nil
}

// call makes one try.
func (e Enrollment) call(ctx context.Context, csr []byte) (*tuskvaultv1.EnrollResponse, error) {
	conn, err := rpc.Dial(e.Controller, pki.FirstContactTLS(e.Token.Root), e.Dial...)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	return tuskvaultv1.NewEnrollmentServiceClient(conn).Enroll(ctx, &tuskvaultv1.EnrollRequest{Token: e.Token.Credential(), Name: e.Name,
		Csr: csr, Build: buildToWire(e.Build)})
}

// renewals renews the certificate until ctx ends: at two thirds of its life and
// a little later at random, so that a fleet enrolled in one hour does not renew
// in one minute.
func (c *Client) renewals(ctx context.Context) error {
	for {
		leaf := c.o.Identity.Current().Leaf
		life := leaf.NotAfter.Sub(leaf.NotBefore)
		if !sleep(ctx, time.Until(pki.RenewAt(leaf))+rand.N(life/20+1)) {
			return nil
		}
		for {
			err := c.renew(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			left := time.Until(leaf.NotAfter)
			// Ten tries in what is left, none more often than each second or more rarely than each hour.
			wait := min(max(left/10, time.Second), time.Hour)
			if left <= 0 {
				c.log.Error("certificate has expired", zap.Time("expired", leaf.NotAfter), zap.Error(err),
					zap.String("hint", `run "tuskctl agent replace NAME" and start the agent with the token it prints`))
				wait = time.Hour
			} else {
				c.log.Warn("certificate not renewed", zap.Time("expires", leaf.NotAfter), zap.Error(err), zap.Duration("retry_in", wait))
			}
			if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
				return nil
			}
		}
	}
}

// renew gets a new certificate for a new key. The old one stays valid until it
// expires, so a crash between the answer and Save loses nothing.
func (c *Client) renew(ctx context.Context) error {
	old := c.o.Identity.Current()
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return err
	}
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	answer, err := tuskvaultv1.NewEnrollmentServiceClient(conn).Renew(ctx, &tuskvaultv1.RenewRequest{Csr: csr})
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	fresh, err := pki.NewIdentity(key, answer.GetCertificateChain(), old.Root.Raw, time.Now())
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if fresh.Peer.String() != old.Peer.String() || fresh.Peer.Repository != old.Peer.Repository {
		return fmt.Errorf("renew certificate: the controller gave one of %s to %s: %w", fresh.Peer, old.Peer, errs.Unauthenticated)
	}
	if err := fresh.Save(c.o.IdentityPath); err != nil {
		return err
	}
	c.o.Identity.Replace(fresh)
	c.log.Info("certificate renewed", zap.Time("expires", fresh.Leaf.NotAfter))
	select {
	case c.renewed <- struct{}{}:
	default:
	}
	return nil
}
