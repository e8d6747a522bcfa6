package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// password of the throw-away server: the demo reaches it as a production agent
// would, with a password from a passfile.
const password = "demo password"

type demo struct {
	scale float64
	out   io.Writer

	server *pgtest.Server
	system *harness.System
	report []string
}

func (d *demo) close(ctx context.Context) error {
	var err error
	if d.system != nil {
		err = d.system.Close(ctx)
	}
	if d.server != nil {
		err = errors.Join(err, d.server.Close())
	}
	return err
}

// step says what happens now and how long it took.
func (d *demo) step(what string, do func() error) error {
	_, _ = fmt.Fprintf(d.out, "%-64s", what+" …") // output to a terminal: nothing to do about an error
	start := time.Now()
	if err := do(); err != nil {
		_, _ = fmt.Fprintln(d.out, "failed")
		return fmt.Errorf("%s: %w", what, err)
	}
	_, _ = fmt.Fprintf(d.out, "%6.1f s\n", time.Since(start).Seconds())
	return nil
}

func (d *demo) run(ctx context.Context, bin harness.Binaries, dir string) error {
	var before, after map[string]string
	var first, second backup
	for _, s := range []struct {
		what string
		do   func() error
	}{
		{"start a throw-away PostgreSQL", func() error { return d.startServer(ctx) }},
		{"fill it with generated data", func() error { return dataset.Fill(ctx, d.server.URL("shop"), d.scale) }},
		{"start the controller, enroll an agent", func() error { return d.startSystem(ctx, bin, dir) }},
		{"digest every table by SQL", func() (err error) { before, err = dataset.Digests(ctx, d.server.URL("shop")); return err }},
		{"back up", func() (err error) { first, err = d.backup(ctx); return err }},
		{"change one row in a hundred", func() error { return dataset.Change(ctx, d.server.URL("shop"), d.scale) }},
		{"digest every table by SQL, again", func() (err error) { after, err = dataset.Digests(ctx, d.server.URL("shop")); return err }},
		{"back up again", func() (err error) { second, err = d.backup(ctx); return err }},
		{"restore the first snapshot as shop_before", func() error { return d.restore(ctx, first.ID, "shop_before") }},
		{"restore the second snapshot as shop_after", func() error { return d.restore(ctx, second.ID, "shop_after") }},
		{"compare rows of shop_before with the first digest", func() error { return d.compare(ctx, "shop_before", before) }},
		{"compare rows of shop_after with the second digest", func() error { return d.compare(ctx, "shop_after", after) }},
		{"compare the schema of shop_after with pg_dump -s", func() error { return d.compareSchema(ctx, "shop", "shop_after") }},
	} {
		if err := d.step(s.what, s.do); err != nil {
			return err
		}
	}
	d.summary(ctx, first, second)
	return nil
}

func (d *demo) startServer(ctx context.Context) (err error) {
	if d.server, err = pgtest.Open(ctx, pgtest.Options{Password: password, Fsync: true, Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "2GB"}}); err != nil {
		return err
	}
	return d.exec(ctx, "CREATE DATABASE shop")
}

func (d *demo) exec(ctx context.Context, sql string) error {
	c, err := pgconn.Connect(ctx, d.server.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql).ReadAll()
	return errors.Join(err, c.Close(ctx))
}

func (d *demo) startSystem(ctx context.Context, bin harness.Binaries, dir string) (err error) {
	if d.system, err = harness.New(bin, dir); err != nil {
		return err
	}
	passfile := filepath.Join(dir, "pgpass")
	if err := os.WriteFile(passfile, []byte("*:*:*:*:"+password+"\n"), 0o600); err != nil {
		return err
	}
	if err := d.system.Init(ctx); err != nil {
		return err
	}
	if err := d.system.StartController(ctx); err != nil {
		return err
	}
	env := []string{"PGHOST=" + d.server.Dir, fmt.Sprintf("PGPORT=%d", d.server.Port), "PGUSER=" + pgtest.Superuser, "PGPASSFILE=" + passfile, "PGDATABASE=postgres"}
	return d.system.Enroll(ctx, "demo", env)
}

// backup is what tuskctl says of a finished backup.
type backup struct {
	ID    string
	Took  time.Duration
	Stats struct {
		Rows             int64 `json:"rows"`
		PlainBytes       int64 `json:"plain_bytes"`
		Chunks           int64 `json:"chunks"`
		NewChunks        int64 `json:"new_chunks"`
		TransferredBytes int64 `json:"transferred_bytes"`
		PeakMemoryBytes  int64 `json:"peak_memory_bytes"`
	}
}

func (d *demo) backup(ctx context.Context) (b backup, err error) {
	var v struct {
		Jobs []struct {
			SnapshotID string `json:"snapshot_id"`
		} `json:"jobs"`
	}
	start := time.Now()
	if err := d.system.JSON(ctx, &v, "backup", "demo/main", "--database", "shop", "--wait"); err != nil {
		return b, err
	}
	b.Took = time.Since(start)
	if len(v.Jobs) != 1 || v.Jobs[0].SnapshotID == "" {
		return b, errors.New("the job names no snapshot")
	}
	b.ID = v.Jobs[0].SnapshotID
	return b, d.stats(ctx, &b)
}

func (d *demo) stats(ctx context.Context, b *backup) error {
	v := struct {
		Job struct {
			Result struct {
				Stats any `json:"stats"`
			} `json:"result"`
		} `json:"job"`
	}{}
	v.Job.Result.Stats = &b.Stats
	return d.system.JSON(ctx, &v, "job", "show", b.ID)
}

func (d *demo) restore(ctx context.Context, snapshot, database string) error {
	return d.system.Ctl(ctx, "restore", snapshot, "--to", "demo/main", "--database", "shop="+database, "--wait").Err()
}

func (d *demo) compare(ctx context.Context, database string, want map[string]string) error {
	got, err := dataset.Digests(ctx, d.server.URL(database))
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("tables differ (- source, + restored):\n%s", diff)
	}
	d.report = append(d.report, fmt.Sprintf("%s: %d tables equal to the source", database, len(slices.Collect(maps.Keys(want)))-2))
	return nil
}

func (d *demo) compareSchema(ctx context.Context, a, b string) error {
	dump := func(database string) (string, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(d.server.Bin, "pg_dump"), "--schema-only", database)
		cmd.Env = append(os.Environ(), d.server.Env(database)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("pg_dump: %w: %s", err, stderr.String())
		}
		lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool {
			return strings.HasPrefix(l, `\restrict`) || strings.HasPrefix(l, `\unrestrict`) // a random key each time
		})
		return strings.Join(lines, "\n"), nil
	}
	x, err := dump(a)
	if err != nil {
		return err
	}
	y, err := dump(b)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(x, y); diff != "" {
		return fmt.Errorf("schemas differ:\n%s", diff)
	}
	d.report = append(d.report, fmt.Sprintf("%s: pg_dump --schema-only gives the same %d lines", b, strings.Count(x, "\n")))
	return nil
}

func (d *demo) summary(ctx context.Context, first, second backup) {
	mb := func(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) } // as in step
	line("\n%-16s %10s %12s %12s %14s %12s %12s", "", "wall", "rows", "row text", "chunks (new)", "sent", "agent peak")
	for _, r := range []struct {
		name string
		backup
	}{{"first backup", first}, {"second backup", second}} {
		line("%-16s %8.1f s %12d %12s %14s %12s %12s", r.name, r.Took.Seconds(), r.Stats.Rows, mb(r.Stats.PlainBytes),
			fmt.Sprintf("%d (%d)", r.Stats.Chunks, r.Stats.NewChunks), mb(r.Stats.TransferredBytes), mb(r.Stats.PeakMemoryBytes))
	}
	line("")
	if first.Stats.TransferredBytes > 0 {
		line("the second backup sent %.1f %% of what the first one sent", 100*float64(second.Stats.TransferredBytes)/float64(first.Stats.TransferredBytes))
	}
	for _, l := range d.report {
		line("%s", l)
	}
	line("peak memory: agent %s, controller %s", mb(d.system.Agents["demo"].PeakMemory()), mb(d.system.Controller.PeakMemory()))
	line("\n%s", strings.TrimRight(d.system.Ctl(ctx, "status").Stdout, "\n"))
}
