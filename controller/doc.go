// Package controller is the one service that knows the fleet: it hands out jobs, keeps
// the catalog, writes packs to the store and proves what it reports.
package controller
