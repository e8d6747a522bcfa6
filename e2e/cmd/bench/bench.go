package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// figure is one run of one tool.
type figure struct {
	wall time.Duration
	// agent and controller are processor time of our own programs, client of a
	// tool of PostgreSQL, and server of the PostgreSQL server with all backends.
	agent, controller, client, server time.Duration
	// agentPeak and controllerPeak are their largest resident sizes, in bytes.
	agentPeak, controllerPeak int64
	// size is what the tool stored, in bytes.
	size int64
}

type bench struct {
	bin     harness.Binaries
	dir     string
	scale   float64
	server  *pgtest.Server
	dbBytes string
	figures map[string][]figure
	order   []string
}

func (b *bench) close() error {
	if b.server == nil {
		return nil
	}
	return b.server.Close()
}

func (b *bench) prepare(ctx context.Context) (err error) {
	fmt.Fprintln(os.Stderr, "filling the database")
	b.server, err = pgtest.Open(ctx, pgtest.Options{Fsync: true, Settings: map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}})
	if err != nil {
		return err
	}
	if err := b.exec(ctx, "CREATE DATABASE shop"); err != nil {
		return err
	}
	if err := dataset.Fill(ctx, b.server.URL("shop"), b.scale); err != nil {
		return err
	}
	c, err := pgconn.Connect(ctx, b.server.URL("shop"))
	if err != nil {
		return err
	}
	r := c.ExecParams(ctx, "SELECT pg_size_pretty(pg_database_size('shop'))", nil, nil, nil, nil).Read()
	if r.Err == nil {
		b.dbBytes = string(r.Rows[0][0])
	}
	return errors.Join(r.Err, c.Close(ctx))
}

func (b *bench) exec(ctx context.Context, sql string) error {
	c, err := pgconn.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql).ReadAll()
	return errors.Join(err, c.Close(ctx))
}

func (b *bench) add(name string, f figure) {
	if !slices.Contains(b.order, name) {
		b.order = append(b.order, name)
	}
	b.figures[name] = append(b.figures[name], f)
	fmt.Fprintf(os.Stderr, "  %-34s %7.2f s\n", name, f.wall.Seconds())
}

// shell times a pipeline; every part of it must succeed.
func (b *bench) shell(ctx context.Context, name, script, result string) error {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail; "+script)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), append(b.server.Env("shop"), "PATH="+b.server.Bin+":"+os.Getenv("PATH"))...)
	server, start := b.serverTime(), time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	f := figure{wall: time.Since(start)}
	// The shell has waited for what it started, so this is its children's time too.
	f.client, f.server = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), b.serverTime()-server
	if result != "" {
		f.size = treeSize(filepath.Join(b.dir, result))
	}
	b.add(name, f)
	return nil
}

// The names of what is measured.
const (
	pipeline    = "pg_dump -Fc -Z0 | zstd -3 -T2"
	directory   = "pg_dump -Fd -j2"
	floor       = "pg_dump -Fd -Z0 -j2 (the floor)"
	ourFirst    = "tuskvault backup, first"
	ourSecond   = "tuskvault backup, unchanged"
	theirLoad   = "pg_restore -j2"
	ourRestore  = "tuskvault restore"
	ourReadBack = "tuskvault restore, read back"
	loadName    = "bench_load"
	restoreName = "bench_restore"
)

func (b *bench) round(ctx context.Context, i int) error {
	if _, err := exec.LookPath("zstd"); err == nil {
		if err := b.shell(ctx, pipeline, "pg_dump -Fc -Z0 | zstd -3 -T2 -q -o p.zst", "p.zst"); err != nil {
			return err
		}
	} else if i == 0 {
		fmt.Fprintln(os.Stderr, "zstd is not installed: its pipeline is left out (apt-get install zstd)")
	}
	if err := b.shell(ctx, directory, "pg_dump -Fd -j2 -f d", "d"); err != nil {
		return err
	}
	if err := b.shell(ctx, floor, "pg_dump -Fd -Z0 -j2 -f f", "f"); err != nil {
		return err
	}
	err := b.withSystem(ctx, fmt.Sprintf("round-%d", i), func(s *harness.System) error {
		if err := b.timed(ctx, s, ourFirst, backup...); err != nil {
			return err
		}
		if err := b.timed(ctx, s, ourSecond, backup...); err != nil {
			return err
		}
		return b.restoreRound(ctx, s)
	})
	for _, f := range []string{"p.zst", "d", "f"} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(b.dir, f)))
	}
	return err
}

// onlyRestores dumps and backs up once, and then measures restores alone.
func (b *bench) onlyRestores(ctx context.Context, rounds int) error {
	if err := b.shell(ctx, directory, "pg_dump -Fd -j2 -f d", "d"); err != nil {
		return err
	}
	return b.withSystem(ctx, "restores", func(s *harness.System) error {
		if err := b.timed(ctx, s, ourFirst, backup...); err != nil {
			return err
		}
		for i := range rounds {
			fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
			if err := b.restoreRound(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// restoreRound restores with each tool; each begins after a checkpoint, with no
// database of another in the server's memory.
func (b *bench) restoreRound(ctx context.Context, s *harness.System) error {
	one := func(name string, restore func() error) error {
		if err := b.exec(ctx, "CHECKPOINT"); err != nil {
			return err
		}
		return errors.Join(restore(), b.exec(ctx, "DROP DATABASE IF EXISTS "+name))
	}
	ours := []string{"restore", "latest", "--to", "bench/main", "--database", "shop=" + restoreName, "--wait"}
	return errors.Join(
		one(restoreName, func() error { return b.timed(ctx, s, ourRestore, ours...) }),
		one(restoreName, func() error { return b.timed(ctx, s, ourReadBack, append(ours, "--read-back")...) }),
		one(loadName, func() error {
			if err := b.exec(ctx, "CREATE DATABASE "+loadName); err != nil {
				return err
			}
			return b.shell(ctx, theirLoad, "pg_restore -j2 -d "+loadName+" d", "")
		}))
}

var backup = []string{"backup", "bench/main", "--database", "shop", "--wait"}

// withSystem runs fn with a controller, a fresh repository and an agent.
func (b *bench) withSystem(ctx context.Context, name string, fn func(s *harness.System) error) (err error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, err := harness.New(b.bin, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(ctx), os.RemoveAll(dir)) }()
	if err := errors.Join(s.Init(ctx), s.StartController(ctx)); err != nil {
		return err
	}
	if err := s.Enroll(ctx, "bench", b.server.Env("postgres")); err != nil {
		return err
	}
	return fn(s)
}

func (b *bench) timed(ctx context.Context, s *harness.System, name string, args ...string) error {
	agent, controller := s.Agents["bench"], s.Controller
	a0, c0, s0 := agent.ProcessorTime(), controller.ProcessorTime(), b.serverTime()
	size := treeSize(s.StoreDir())
	start := time.Now()
	if err := s.Ctl(ctx, args...).Err(); err != nil {
		return err
	}
	b.add(name, figure{wall: time.Since(start), agent: agent.ProcessorTime() - a0, controller: controller.ProcessorTime() - c0,
		server: b.serverTime() - s0, agentPeak: agent.PeakMemory(), controllerPeak: controller.PeakMemory(), size: treeSize(s.StoreDir()) - size})
	return nil
}

func treeSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that vanished has no size
		}
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() {
			n += i.Size()
		}
		return nil
	})
	return n
}

func (b *bench) median(name string, of func(figure) float64) float64 {
	var v []float64
	for _, f := range b.figures[name] {
		v = append(v, of(f))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (b *bench) wall(name string) float64 {
	return b.median(name, func(f figure) float64 { return f.wall.Seconds() })
}

func (b *bench) print(w io.Writer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // a report has no second channel for its own failure
	line("database: %s; medians of %d rounds\n", b.dbBytes, len(b.figures[ourRestore]))
	line("%-34s %9s %9s %13s %13s %12s %12s %10s %10s", "", "wall s", "stored MB", "server CPU s", "client CPU s", "agent CPU s", "contr. CPU s", "agent MiB", "contr. MiB")
	for _, name := range b.order {
		med := func(of func(figure) float64) float64 { return b.median(name, of) }
		line("%-34s %9.2f %9.1f %13.2f %13.2f %12.2f %12.2f %10.0f %10.0f", name, b.wall(name), med(func(f figure) float64 { return float64(f.size) / 1e6 }),
			med(func(f figure) float64 { return f.server.Seconds() }), med(func(f figure) float64 { return f.client.Seconds() }),
			med(func(f figure) float64 { return f.agent.Seconds() }), med(func(f figure) float64 { return f.controller.Seconds() }),
			med(func(f figure) float64 { return float64(f.agentPeak) / (1 << 20) }), med(func(f figure) float64 { return float64(f.controllerPeak) / (1 << 20) }))
	}
	line("\nratios of wall times, by round (median last):")
	for _, p := range [][2]string{{ourFirst, pipeline}, {ourFirst, directory}, {ourSecond, floor}, {ourRestore, theirLoad}, {ourReadBack, theirLoad}} {
		if n := len(b.figures[p[0]]); n == 0 || n != len(b.figures[p[1]]) {
			continue
		}
		var r []float64
		var s []string
		for i := range b.figures[p[0]] {
			q := b.figures[p[0]][i].wall.Seconds() / b.figures[p[1]][i].wall.Seconds()
			r, s = append(r, q), append(s, fmt.Sprintf("%.2f", q))
		}
		slices.Sort(r)
		line("  %-30s / %-34s %s   %.2f", p[0], p[1], strings.Join(s, " "), r[len(r)/2])
	}
}
