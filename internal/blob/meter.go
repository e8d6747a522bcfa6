package blob

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Op is an operation of a Store.
type Op byte

// The operations.
const (
	OpCreate Op = iota
	OpOpen
	OpStat
	OpList
	OpDelete
	OpLock
	OpVersions
	OpRecover
	opCount
)

// String gives the operation in lower case.
func (o Op) String() string {
	return [...]string{"create", "open", "stat", "list", "delete", "lock", "versions", "recover"}[o]
}

// Ops lists all operations.
func Ops() []Op {
	return []Op{OpCreate, OpOpen, OpStat, OpList, OpDelete, OpLock, OpVersions, OpRecover}
}

// OpStats are the figures of one operation.
type OpStats struct {
	// Calls that ended; a reader ends when it is closed.
	Calls int64
	// Errors among them. "Exists", "not found" and "locked" are answers, not errors.
	Errors int64
	// Bytes written by Create, or given by readers.
	Bytes int64
	// Time of all calls together.
	Time time.Duration
}

// Meter counts what goes through a store. The zero value is ready.
type Meter struct {
	ops [opCount]opCounters
}

type opCounters struct {
	calls, errors, bytes, nanoseconds atomic.Int64
}

// Stats gives the figures of an operation since the start.
func (m *Meter) Stats(op Op) OpStats {
	c := &m.ops[op]
	return OpStats{Calls: c.calls.Load(), Errors: c.errors.Load(), Bytes: c.bytes.Load(), Time: time.Duration(c.nanoseconds.Load())}
}

// Store gives a store whose calls m counts.
func (m *Meter) Store(s Store) Store { return &metered{store: s, meter: m} }

func (m *Meter) count(op Op, start time.Time, bytes int64, err error) {
	c := &m.ops[op]
	c.calls.Add(1)
	c.bytes.Add(bytes)
	c.nanoseconds.Add(int64(time.Since(start)))
	if err != nil && !errors.Is(err, errs.Exists) && !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Locked) {
		c.errors.Add(1)
	}
}

type metered struct {
	store Store
	meter *Meter
}

func (m *metered) Features() Features { return m.store.Features() }

func (m *metered) Create(ctx context.Context, key string, body Body) error {
	start := time.Now()
	err := m.store.Create(ctx, key, body)
	var bytes int64
	if err == nil {
		bytes = body.Size()
	}
	m.meter.count(OpCreate, start, bytes, err)
	return err
}

func (m *metered) Stat(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := m.store.Stat(ctx, key)
	m.meter.count(OpStat, start, 0, err)
	return info, err
}

func (m *metered) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	start := time.Now()
	var stop error
	err := m.store.List(ctx, prefix, after, func(info Info) error {
		stop = fn(info)
		return stop
	})
	if stop != nil {
		m.meter.count(OpList, start, 0, nil) // the caller's error, not the store's
	} else {
		m.meter.count(OpList, start, 0, err)
	}
	return err
}

func (m *metered) LockTime(key string) time.Duration { return lockTime(m.store, key) }

func (m *metered) Lock(ctx context.Context, key string) (time.Time, error) {
	start := time.Now()
	until, err := lock(ctx, m.store, key)
	m.meter.count(OpLock, start, 0, err)
	return until, err
}

func (m *metered) Versions(ctx context.Context, prefix, after string, fn func(Version) error) error {
	start := time.Now()
	var stop error
	err := versions(ctx, m.store, prefix, after, func(v Version) error {
		stop = fn(v)
		return stop
	})
	if stop != nil {
		m.meter.count(OpVersions, start, 0, nil) // the caller's error, not the store's
	} else {
		m.meter.count(OpVersions, start, 0, err)
	}
	return err
}

func (m *metered) OpenVersion(ctx context.Context, v Version, offset, length int64) (io.ReadCloser, error) {
	return m.open(func() (io.ReadCloser, error) { return openVersion(ctx, m.store, v, offset, length) })
}

func (m *metered) Recover(ctx context.Context, v Version) error {
	start := time.Now()
	err := recoverVersion(ctx, m.store, v)
	m.meter.count(OpRecover, start, 0, err)
	return err
}

func (m *metered) Delete(ctx context.Context, key string) error {
	start := time.Now()
	err := m.store.Delete(ctx, key)
	m.meter.count(OpDelete, start, 0, err)
	return err
}

func (m *metered) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return m.open(func() (io.ReadCloser, error) { return m.store.Open(ctx, key, offset, length) })
}

// open counts the opening of a reader, and later what it gives.
func (m *metered) open(call func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	start := time.Now()
	r, err := call()
	if err != nil {
		m.meter.count(OpOpen, start, 0, err)
		return nil, err
	}
	return &meteredReader{inner: r, meter: m.meter, start: start}, nil
}

type meteredReader struct {
	inner io.ReadCloser
	meter *Meter
	start time.Time
	bytes int64
	err   error
	once  sync.Once
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.inner.Read(p)
	r.bytes += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func (r *meteredReader) Close() error {
	err := r.inner.Close()
	r.once.Do(func() { r.meter.count(OpOpen, r.start, r.bytes, errors.Join(r.err, err)) })
	return err
}
