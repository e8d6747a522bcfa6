// Command demo shows Tuskvault at work: it starts a throw-away PostgreSQL with
// generated data, a controller and an agent as real processes, backs up,
// changes one row in a hundred, backs up again, restores both snapshots into
// new databases, compares them with SQL of its own, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tuskvault/tuskvault/e2e/harness"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the programs")
	scale := flag.Float64("scale", 1, "size of the database; 1 is about 290 MB")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *scale)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, scale float64) (err error) {
	b, err := harness.BinariesIn(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tuskvault-demo-")
	if err != nil {
		return err
	}
	d := &demo{scale: scale, out: os.Stdout}
	defer func() { err = errors.Join(err, d.close(ctx), os.RemoveAll(dir)) }()
	return d.run(ctx, b, dir)
}
