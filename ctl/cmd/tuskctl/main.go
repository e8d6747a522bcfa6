// Command tuskctl drives a Tuskvault controller.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tuskvault/tuskvault/ctl"
	"github.com/tuskvault/tuskvault/internal/process"
)

func main() {
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err) // it works as well, and a crash says more than it should
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, os.Args[1:], ctl.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
	stop()
	os.Exit(code)
}
