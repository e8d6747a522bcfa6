// Package ctl is tuskctl, the command line that drives a controller.
package ctl
