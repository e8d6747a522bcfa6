package access

import (
	"encoding/pem"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// FromIdentity makes a context from an identity's PEM text: the private key,
// the certificate chain, and the root certificate last.
func FromIdentity(name, address string, identity []byte) (Context, error) {
	c := Context{Name: name, Address: address}
	var certs []string
	for {
		var b *pem.Block
		if b, identity = pem.Decode(identity); b == nil {
			break
		}
		text := string(pem.EncodeToMemory(b))
		if b.Type == "CERTIFICATE" {
			certs = append(certs, text)
		} else {
			c.Key += PEM(text)
		}
	}
	if c.Key == "" || len(certs) < 2 {
		return c, fmt.Errorf("make context %q: the identity needs a private key, a chain and a root: %w", name, errs.Invalid)
	}
	last := len(certs) - 1
	c.Root = PEM(certs[last])
	for _, t := range certs[:last] {
		c.Certificate += PEM(t)
	}
	return c, nil
}

// Identity gives the PEM text that FromIdentity took.
func (c *Context) Identity() []byte {
	return []byte(string(c.Key) + string(c.Certificate) + string(c.Root))
}
