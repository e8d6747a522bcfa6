// Package e2e tests the whole: real programs, a real PostgreSQL, real TLS.
package e2e
