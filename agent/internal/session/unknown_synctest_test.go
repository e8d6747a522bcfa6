package session_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// newer gives a message a field that no version has.
func newer[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	return m
}

func TestAnOfferThatAsksForMoreThanIsKnownIsRefusedForGood(t *testing.T) {
	bubble(t, func(t *testing.T, c *controller, a *agent, e *executor) {
		offer := func(n uint64, change func(*tuskvaultv1.JobOffer, *tuskvaultv1.BackupWork)) {
			work := &tuskvaultv1.BackupWork{Instance: "main"}
			o := &tuskvaultv1.JobOffer{Attempt: c.ref(repo.NewID(), n), Grant: grant(), Work: &tuskvaultv1.JobOffer_Backup{Backup: work}}
			change(o, work)
			c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: o}})
		}
		offer(1, func(o *tuskvaultv1.JobOffer, _ *tuskvaultv1.BackupWork) { newer(o) })
		offer(2, func(_ *tuskvaultv1.JobOffer, w *tuskvaultv1.BackupWork) { newer(w) })
		offer(3, func(o *tuskvaultv1.JobOffer, _ *tuskvaultv1.BackupWork) { newer(o.GetGrant().GetSealKeys()[0]) })
		offer(4, func(_ *tuskvaultv1.JobOffer, w *tuskvaultv1.BackupWork) { w.OnBlockedDdl = 77 })
		settle(time.Second)
		h := c.last()
		want := []string{"JobOffer: field 9999", "BackupWork: field 9999", "field 9999", "BackupWork: value 77 of field on_blocked_ddl"}
		if len(h.rejects) != len(want) || len(h.accepts) != 0 {
			t.Fatalf("%d rejects and %d accepts, want %d and 0", len(h.rejects), len(h.accepts), len(want))
		}
		for i, r := range h.rejects {
			if !strings.Contains(r.GetReason(), "asks for something this version does not know") || !strings.Contains(r.GetReason(), want[i]) || r.GetRetryable() {
				t.Errorf("reject %d: %q (retryable %v), want %q for good", i, r.GetReason(), r.GetRetryable(), want[i])
			}
		}
		if started, _, _ := e.counts(); started != 0 || len(a.entries()) != 0 {
			t.Errorf("%d executors started, %d entries in the journal", started, len(a.entries()))
		}
		offer(5, func(*tuskvaultv1.JobOffer, *tuskvaultv1.BackupWork) {})
		settle(time.Second)
		if h := c.last(); len(h.accepts) != 1 {
			t.Errorf("%d accepts of what is known, want 1", len(h.accepts))
		}
	})
}
