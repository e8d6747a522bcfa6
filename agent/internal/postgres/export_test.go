package postgres

import (
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Wrap puts something between the session and its socket.
func (c *Conn) Wrap(with func(net.Conn) net.Conn) error {
	h, err := c.pc.Hijack()
	if err != nil {
		return err
	}
	h.Conn = with(h.Conn)
	c.pc, err = pgconn.Construct(h)
	return err
}
