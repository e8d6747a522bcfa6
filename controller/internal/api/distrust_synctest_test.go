package api_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestWhatAnAgentUploadedIsNotReliedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		before := time.Now()
		time.Sleep(time.Hour)
		snapshot := w.backedUp(catalog.Instance{ID: repo.NewID(), Agent: a.id, AgentName: "db1", Name: "main"})
		time.Sleep(time.Hour)
		var packs int64
		succeed(t, w.repository.Store().List(t.Context(), repo.PackPrefix(snapshot.Domain), "", func(blob.Info) error { packs++; return nil }))
		ask := func(role catalog.Role, r *tuskvaultv1.DistrustAgentRequest) (*tuskvaultv1.DistrustAgentResponse, error) {
			return tuskvaultv1.NewRepositoryServiceClient(w.dial(w.operator("one-"+role.String(), role).cert)).DistrustAgent(t.Context(), r)
		}
		good := &tuskvaultv1.DistrustAgentRequest{Agent: "db1", SinceTime: timestamppb.New(before)}
		for _, role := range []catalog.Role{catalog.RoleViewer, catalog.RoleOperator} {
			if _, err := ask(role, good); !errors.Is(err, errs.Denied) {
				t.Errorf("as %s: %v", role, err)
			}
		}
		for name, c := range map[string]struct {
			r    *tuskvaultv1.DistrustAgentRequest
			kind *errs.Kind
		}{
			"no time":           {&tuskvaultv1.DistrustAgentRequest{Agent: "db1"}, errs.Invalid},
			"no such time":      {&tuskvaultv1.DistrustAgentRequest{Agent: "db1", SinceTime: &timestamppb.Timestamp{Nanos: -1}}, errs.Invalid},
			"a time to come":    {&tuskvaultv1.DistrustAgentRequest{Agent: "db1", SinceTime: timestamppb.New(time.Now().Add(time.Hour))}, errs.Invalid},
			"no agent":          {&tuskvaultv1.DistrustAgentRequest{SinceTime: good.GetSinceTime()}, errs.NotFound},
			"nobody's agent":    {&tuskvaultv1.DistrustAgentRequest{Agent: "db9", SinceTime: good.GetSinceTime()}, errs.NotFound},
			"a name with zeros": {&tuskvaultv1.DistrustAgentRequest{Agent: strings.Repeat("\x00", 300), SinceTime: good.GetSinceTime()}, errs.NotFound},
		} {
			if _, err := ask(catalog.RoleAdmin, c.r); errs.KindOf(err) != c.kind {
				t.Errorf("%s: %v, want %s", name, err, c.kind)
			}
		}
		if n := len(w.audited("repository.distrust")) + w.distrusted.count(); n != 0 {
			t.Errorf("refused, and yet %d records or packs", n)
		}
		got, err := ask(catalog.RoleAdmin, &tuskvaultv1.DistrustAgentRequest{Agent: "db1", SinceTime: timestamppb.New(time.Now().Add(-time.Minute))})
		if err != nil || got.GetPacks() != 0 || got.GetDomains() != 1 {
			t.Errorf("since after the backup: %v, %v", got, err)
		}
		got, err = ask(catalog.RoleAdmin, good)
		if err != nil || packs == 0 || got.GetPacks() != packs || got.GetDomains() != 1 || w.distrusted.count() != int(packs) {
			t.Errorf("%v, %v: %d packs are there, %d are marked", got, err, packs, w.distrusted.count())
		}
		records := w.audited("repository.distrust")
		if len(records) != 2 || records[0].Actor != "operator/one-admin" || records[0].Object != "agent db1" || records[0].Address == "" || records[0].Outcome != "ok" {
			t.Errorf("%+v", records)
		}
	})
}
