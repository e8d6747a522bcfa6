// Command bench measures Tuskvault beside the tools it is compared with, on one
// machine in one run, in alternating rounds, and prints medians and ratios. It
// is no test: it judges nothing.
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
	scale := flag.Float64("scale", 5, "size of the database; 1 is about 290 MB")
	rounds := flag.Int("rounds", 3, "rounds; every tool runs once in each")
	restores := flag.Bool("restores", false, "one dump and one backup, and then only restores in the rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *scale, *rounds, *restores)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, scale float64, rounds int, restores bool) (err error) {
	b, err := harness.BinariesIn(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tuskvault-bench-")
	if err != nil {
		return err
	}
	// pg_dump and our programs write here under our own user.
	r := &bench{bin: b, dir: dir, scale: scale, figures: map[string][]figure{}}
	defer func() { err = errors.Join(err, r.close(), os.RemoveAll(dir)) }()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if restores {
		if err := r.onlyRestores(ctx, rounds); err != nil {
			return err
		}
		rounds = 0
	}
	for i := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
		if err := r.round(ctx, i); err != nil {
			return err
		}
	}
	r.print(os.Stdout)
	return nil
}
