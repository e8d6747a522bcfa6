package api_test

import (
	"testing"
	"testing/synctest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// TestRevokingAnAgentTurnsTheSealKeysOfItsDomainsOver: what a stolen host was
// given opens nothing that its domain stores from then on.
func TestRevokingAnAgentTurnsTheSealKeysOfItsDomainsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stolen, other := w.agent("db1"), w.agent("db2")
		w.session(stolen, hello())
		w.session(other, hello())
		epoch := func(agent string) uint32 {
			t.Helper()
			d, err := w.repository.Domain(t.Context(), w.instanceOf(agent, "main").Domain)
			if err != nil {
				t.Fatal(err)
			}
			return d.SealEpoch()
		}
		if epoch("db1") != 1 || epoch("db2") != 1 {
			t.Fatalf("seal epochs %d and %d", epoch("db1"), epoch("db2"))
		}
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		if _, err := admin.RevokeAgent(t.Context(), &tuskvaultv1.RevokeAgentRequest{Agent: "db1", Reason: "stolen"}); err != nil {
			t.Fatal(err)
		}
		if epoch("db1") != 2 || epoch("db2") != 1 {
			t.Errorf("seal epochs %d and %d after db1 was revoked", epoch("db1"), epoch("db2"))
		}
	})
}
