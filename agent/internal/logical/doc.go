// Package logical wires logical backups and restores: the executors that the
// session runs, between the databases (dump, plan, load) and the controller (transfer).
package logical
