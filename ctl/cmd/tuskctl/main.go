// Command tuskctl drives a Tuskvault controller.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tuskvault/tuskvault/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], ctl.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
	stop()
	os.Exit(code)
}
