// Package agent is the program that runs beside PostgreSQL: it reads databases, cuts and
// seals their rows into chunks and sends them to the controller, and does the
// reverse on a restore. It connects outward only.
package agent
