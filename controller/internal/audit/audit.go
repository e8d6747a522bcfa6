// Package audit appends what happened to the audit trail: every change, every
// read of data and every refused call, with who, what, object, from where and
// result. The trail is a hash chain in the catalog, exported with it.
//
// Events that somebody unauthorized can cause at will (refusals) are recorded
// one by one only up to a budget a minute; beyond it they are counted, and the
// counts become one record a minute, so that a flood can neither fill the disk
// nor push other records out. The package decides nothing and knows no wire.
package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// OK is the outcome of an act that was done. Every other outcome is the kind of
// the refusal or failure; see Outcome.
const OK = "ok"

// Outcome gives the outcome to record for an error: OK for nil, else its kind.
func Outcome(err error) string {
	if err == nil {
		return OK
	}
	if kind := errs.KindOf(err); kind != nil {
		return kind.Error()
	}
	return "failed"
}

// Catalog opens transactions. *catalog.Catalog implements it.
type Catalog interface {
	Update(ctx context.Context, class catalog.Class, fn func(*catalog.Tx) error) error
}

// Bounds of one event, in bytes: what a caller sends cannot make a record large.
const (
	maxActor   = 128
	maxAction  = 64
	maxObject  = 256
	maxAddress = 64
	maxDetail  = 512
)

// Bounds of refusals.
const (
	// singlesPerMinute is how many refusals are recorded one by one: enough to
	// see an attack begin, at most 43,200 records (about 20 MB) a day.
	singlesPerMinute = 30
	// maxCounters bounds the kinds of refusals counted apart in one minute.
	maxCounters = 32
	// writeTimeout bounds writes that outlive their caller.
	writeTimeout = 5 * time.Second
)

// Service appends events. Its methods may be called concurrently.
type Service struct {
	catalog Catalog
	log     *zap.Logger

	mu      sync.Mutex
	minute  time.Time      // when the counting minute began
	singles int            // refusals recorded one by one in it
	counts  map[string]int // refusals only counted in it, by "actor kind action"
}

// New makes a service over the catalog. Run must be called for counted refusals
// to reach the trail.
func New(c Catalog, log *zap.Logger) *Service {
	return &Service{catalog: c, log: log.Named("audit"), counts: make(map[string]int)}
}

// Append puts a record into the transaction of the change it is about, so that
// neither exists without the other.
func (s *Service) Append(tx *catalog.Tx, r catalog.AuditRecord) error {
	if _, err := tx.AppendAudit(bounded(r)); err != nil {
		return fmt.Errorf("audit %s: %w", r.Action, err)
	}
	return nil
}

// Record appends a record in a transaction of its own, for acts that change
// nothing in the catalog: reads of data and failures. It returns when the
// record is committed; an act whose record cannot be written must not be
// answered.
func (s *Service) Record(ctx context.Context, r catalog.AuditRecord) error {
	return s.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return s.Append(tx, r) })
}

// Refuse appends a refused act, or counts it when the budget of the minute is
// used up. It never fails: the act is refused in any case, and a trail that
// cannot be written is logged.
func (s *Service) Refuse(ctx context.Context, r catalog.AuditRecord) {
	if !s.single(r) {
		return
	}
	// The caller may hang up as soon as it is refused; the record stays due.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := s.Record(ctx, r); err != nil {
		s.log.Error("audit record lost", zap.String("action", r.Action), zap.Error(err))
	}
}

// single tells whether the refusal is recorded by itself, and counts it if not.
func (s *Service) single(r catalog.AuditRecord) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.minute) >= time.Minute {
		s.minute, s.singles = now, 0
	}
	if s.singles < singlesPerMinute {
		s.singles++
		return true
	}
	kind, _, _ := strings.Cut(r.Actor, "/")
	if kind == "" {
		kind = "nobody known"
	}
	key := clip(kind, maxActor) + " " + clip(r.Action, maxAction)
	if _, ok := s.counts[key]; !ok && len(s.counts) >= maxCounters {
		key = "others"
	}
	s.counts[key]++
	return false
}

// Run writes the counts of refusals once a minute, and once more when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			// The counts exist nowhere else: they must be written although
			// the program is stopping.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			return s.flush(last)
		case <-tick.C:
			if err := s.flush(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("audit counts not written", zap.Error(err))
			}
		}
	}
}

// flush appends one record for all counts, and keeps them when that fails.
func (s *Service) flush(ctx context.Context) error {
	s.mu.Lock()
	counts := s.counts
	s.counts = make(map[string]int)
	s.mu.Unlock()
	if len(counts) == 0 {
		return nil
	}
	err := s.Record(ctx, catalog.AuditRecord{Actor: "controller", Action: "audit.count", Object: "refused calls", Outcome: errs.Denied.Error(), Detail: summary(counts)})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for k, n := range counts {
			s.counts[k] += n // at most twice maxCounters keys until the trail works again
		}
	}
	return err
}

// summary gives "12 more: 10 x anonymous Enroll, 2 x agent StartBackup".
func summary(counts map[string]int) string {
	type row struct {
		key string
		n   int
	}
	var rows []row
	all := 0
	for k, n := range counts {
		rows = append(rows, row{k, n})
		all += n
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.n != b.n {
			return b.n - a.n
		}
		return strings.Compare(a.key, b.key)
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%d more refused calls within a minute:", all)
	for i, r := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %d x %s", r.n, r.key)
	}
	return b.String()
}

// bounded gives the record with every text valid and short.
func bounded(r catalog.AuditRecord) catalog.AuditRecord {
	r.Actor = clip(r.Actor, maxActor)
	r.Action = clip(r.Action, maxAction)
	r.Object = clip(r.Object, maxObject)
	r.Address = clip(r.Address, maxAddress)
	r.Detail = clip(r.Detail, maxDetail)
	return r
}

// clip gives s as valid UTF-8 without control characters and at most n bytes.
func clip(s string, n int) string {
	if len(s) > 4*n {
		s = s[:4*n] // what follows cannot survive; do not walk through it
	}
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
