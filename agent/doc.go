// Package agent is the program that runs beside PostgreSQL: it reads databases,
// cuts and seals their rows into chunks and sends them to the controller, and
// does the reverse on a restore. It connects outward only and opens no port.
//
// Config says what people may set, New checks it, Run is the agent's whole life:
// it enrolls if it has no identity yet, then keeps a session with its
// controller until the context ends. Everything else is in internal packages.
//
// An agent keeps in its state folder, below agent/: lock (held while it runs),
// identity.pem (key, certificates, pinned root), state.json (name, highest epoch
// seen, witness of the repository) and journal/ (one file per attempt whose
// result the controller has not acknowledged). Nothing of a database is ever
// staged there.
package agent
