package api_test

import (
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// newer gives a message a field that no version has.
func newer[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	return m
}

func TestAWishThatThisVersionDoesNotKnowIsRefusedAndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		jobs := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		_, err := jobs.StartBackup(t.Context(), newer(&tuskvaultv1.StartBackupRequest{RequestId: repo.NewID().String(), Instance: "db1/main"}))
		wantKind(t, err, errs.Unsupported, "StartBackupRequest: field 9999", "does not know")
		_, err = jobs.ListJobs(t.Context(), &tuskvaultv1.ListJobsRequest{Page: newer(&tuskvaultv1.PageRequest{})})
		wantKind(t, err, errs.Unsupported, "PageRequest: field 9999")
		watch, err := jobs.WatchJob(t.Context(), newer(&tuskvaultv1.WatchJobRequest{Job: "x"}))
		if err == nil {
			_, err = watch.Recv()
		}
		wantKind(t, err, errs.Unsupported, "WatchJobRequest: field 9999")
		if len(w.jobs.created) != 0 {
			t.Errorf("jobs %v were made", w.jobs.created)
		}
		viewer := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		_, err = viewer.StartBackup(t.Context(), newer(&tuskvaultv1.StartBackupRequest{}))
		wantKind(t, err, errs.Denied, "viewer")
	})
}

func TestANewerAgentEnrollsRenewsAndKeepsItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		strangers := tuskvaultv1.NewEnrollmentServiceClient(w.dial(nil))
		_, err := strangers.Enroll(t.Context(), newer(&tuskvaultv1.EnrollRequest{Token: w.token(enroll.TokenSpec{}), Name: "db1", Csr: newRequest(t),
			Build: newer(&tuskvaultv1.BuildInfo{Version: "2", Capability: 2})}))
		if err != nil {
			t.Errorf("enroll: %v", err)
		}
		a := w.agent("db2")
		if _, err := tuskvaultv1.NewEnrollmentServiceClient(w.dial(a.cert)).Renew(t.Context(), newer(&tuskvaultv1.RenewRequest{Csr: newRequest(t)})); err != nil {
			t.Errorf("renew: %v", err)
		}
		h := hello(newer(instance("main", 7)))
		newer(h.GetInventory())
		s := w.session(a, newer(h))
		s.send(newer(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Heartbeat{Heartbeat: newer(&tuskvaultv1.Heartbeat{})}}))
		next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
	})
}
