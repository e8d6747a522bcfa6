// Package ctl is tuskctl, the command line that drives a controller: one file a
// noun. Standard output gets the answer and nothing else; people's words go to
// standard error; exit codes are a contract (errors.go).
package ctl
