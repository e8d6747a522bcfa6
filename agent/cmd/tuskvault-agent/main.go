// Command tuskvault-agent backs up and restores the PostgreSQL instances of its
// host on behalf of a Tuskvault controller.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tuskvault/tuskvault/agent/internal/command"
	"github.com/tuskvault/tuskvault/internal/process"
)

func main() {
	if err := process.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err) // it works as well, and a crash says more than it should
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(command.Run(ctx, command.Environment{Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: command.IsTerminal(os.Stderr)}))
}
