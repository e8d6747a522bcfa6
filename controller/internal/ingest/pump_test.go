package ingest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// pump is the agent's side as a process: its packages cannot be linked in here.
type pump struct {
	w    *world
	path string
	dir  string
}

// order and report are those of transfertest/cmd/pump.
type order struct {
	Address, Identity, Job, Domain, Name, Cut, Refs, Seal string
	Epoch, Counter                                        uint64
	SealKey                                               uint32
	Restore                                               bool
	Tables, Rows, Seed                                    int
	Memory                                                int64
}

type report struct {
	Stats    struct{ Chunks, PlainBytes, NewChunks, SentBytes, DurableChunks int64 }
	Seconds  float64
	Mallocs  uint64
	Bytes    uint64
	HeapPeak uint64
	Fetched  int64
	cpu      time.Duration
}

func newPump(t testing.TB, w *world) *pump {
	t.Helper()
	p := &pump{w: w, dir: t.TempDir()}
	p.path = filepath.Join(p.dir, "pump")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.path, "./internal/transfer/transfertest/cmd/pump")
	build.Dir = "../../../agent"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent's side: %v\n%s", err, out)
	}
	w.listen = func() (net.Listener, func(context.Context, string) (net.Conn, error)) {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
		w.address = l.Addr().String()
		return l, func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
	}
	return p
}

func (p *pump) run(t testing.TB, a *agent, ref *tuskvaultv1.AttemptRef, o order) (report, error) {
	t.Helper()
	o.Address, o.Identity = p.w.address, filepath.Join(p.dir, a.id.String()+".pem")
	must(t, a.identity.Save(o.Identity))
	o.Job, o.Epoch, o.Counter = ref.GetJobId(), ref.GetEpoch(), ref.GetCounter()
	o.Domain, o.SealKey = a.domain.String(), a.grant.NewestEpoch
	seal := a.grant.Seal[o.SealKey]
	o.Name, o.Cut = hex.EncodeToString(a.grant.Name[:]), hex.EncodeToString(a.grant.Cut[:])
	o.Refs, o.Seal = hex.EncodeToString(a.grant.Refs[:]), hex.EncodeToString(seal[:])
	in, err := json.Marshal(o)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), p.path)
	cmd.Stdin = bytes.NewReader(in)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return report{}, fmt.Errorf("%w: %s", err, words.Bytes())
	}
	var r report
	must(t, json.Unmarshal(out.Bytes(), &r))
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

func TestBothEndsTogetherOverTLS(t *testing.T) {
	w := newWorld(t)
	p := newPump(t, w)
	w.start()
	a := w.agent()
	job := repo.NewID()
	o := order{Tables: 4, Rows: 60_000, Seed: 1}
	first, err := p.run(t, a, a.lease(job, 1), o)
	must(t, err)
	if first.Stats.NewChunks == 0 || first.Stats.NewChunks != first.Stats.DurableChunks {
		t.Fatalf("%+v", first.Stats)
	}
	if snap, ok := w.catalog.Snapshot(job); !ok || snap.Rows != 240_000 || snap.Chunks == 0 {
		t.Fatalf("recorded as %+v", snap)
	}
	w.restart()
	second, err := p.run(t, a, a.lease(repo.NewID(), 2), o)
	must(t, err)
	if second.Stats.NewChunks != 0 {
		t.Fatalf("the second backup sent %d chunks", second.Stats.NewChunks)
	}
	restore := o
	restore.Restore = true
	_, err = p.run(t, a, a.leaseRestore(job, a.instance), restore)
	must(t, err)
}

// BenchmarkUpload is the whole path but for PostgreSQL: rows of COPY text, cut,
// named, compressed, sealed, over TLS on the loopback, into packs of a store in
// memory. Both sides share the machine.
func BenchmarkUpload(b *testing.B) {
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { benchmark(b, streams, false) })
	}
	b.Run("present", func(b *testing.B) { benchmark(b, 4, true) })
}

func benchmark(b *testing.B, streams int, present bool) {
	w := newWorld(b)
	p := newPump(b, w)
	w.start()
	a := w.agent()
	o := order{Tables: streams, Rows: 2_000_000 / streams, Seed: 1}
	if present {
		_, err := p.run(b, a, a.lease(repo.NewID(), 1), o)
		must(b, err)
	}
	var seconds float64
	var plain, sent int64
	var mallocs, heap uint64
	var agentCPU time.Duration
	ownCPU := cpuTime(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range b.N {
		if !present {
			o.Seed = i + 2
		}
		r, err := p.run(b, a, a.lease(repo.NewID(), uint64(i+2)), o)
		must(b, err)
		seconds, plain, sent = seconds+r.Seconds, plain+r.Stats.PlainBytes, sent+r.Stats.SentBytes
		agentCPU += r.cpu
		mallocs, heap = mallocs+r.Mallocs, max(heap, r.HeapPeak)
	}
	runtime.ReadMemStats(&after)
	chunks := float64(plain) / 253e3
	b.ReportMetric(float64(plain)/1e6/seconds, "MB/s")
	// Busy machines make the wall clock worth little; processor time says what it costs.
	b.ReportMetric(float64(plain)/1e6/agentCPU.Seconds(), "MB/agent-cpu-s")
	b.ReportMetric(float64(plain)/1e6/(cpuTime(b)-ownCPU).Seconds(), "MB/ctl-cpu-s")
	b.ReportMetric(float64(mallocs)/chunks, "agent-allocs/chunk")
	b.ReportMetric(float64(heap)/1e6, "agent-heap-MB")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/chunks, "ctl-allocs/chunk")
}

// cpuTime is the processor time that this process has taken.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
