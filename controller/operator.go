package controller

import (
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/pki"
)

// newOperator is an operator's identity that was made on this host.
type newOperator struct {
	name        string
	identity    *pki.Identity
	certificate catalog.Certificate
}

// makeOperator makes a key and a certificate for an operator, in memory.
func makeOperator(issuer *pki.Issuer, name string, now time.Time) (*newOperator, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return nil, err
	}
	chain, err := issuer.IssueOperator(csr, name, now, pki.LeafLife)
	if err != nil {
		return nil, err
	}
	identity, err := pki.NewIdentity(key, chain.Certificates, issuer.Root().Raw, now)
	if err != nil {
		return nil, err
	}
	return &newOperator{name, identity, catalog.Certificate{Fingerprint: pki.FingerprintOf(chain.Leaf), Issued: now, Expires: chain.Leaf.NotAfter}}, nil
}

// context gives what tuskctl needs to reach the controller as this operator.
func (o *newOperator) context(name, address string) (access.Context, error) {
	text, err := o.identity.PEM()
	if err != nil {
		return access.Context{}, err
	}
	return access.FromIdentity(name, address, text)
}
