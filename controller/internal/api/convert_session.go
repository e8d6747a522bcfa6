package api

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/fleet"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// fromSession reads one message of an agent.
func fromSession(m *tuskvaultv1.SessionRequest) (fleet.Inbound, error) {
	switch m := m.GetMessage().(type) {
	case *tuskvaultv1.SessionRequest_Hello:
		return fromHello(m.Hello)
	case *tuskvaultv1.SessionRequest_Heartbeat:
		running, err := fromRefs(m.Heartbeat.GetRunning())
		return &fleet.Heartbeat{Time: fromTime(m.Heartbeat.GetTime()), Running: running}, err
	case *tuskvaultv1.SessionRequest_Inventory:
		inv := fromInventory(m.Inventory)
		return &inv, nil
	case *tuskvaultv1.SessionRequest_Accept:
		ref, err := fromRef(m.Accept.GetAttempt())
		return &fleet.Accept{Ref: ref}, err
	case *tuskvaultv1.SessionRequest_Reject:
		ref, err := fromRef(m.Reject.GetAttempt())
		return &fleet.Reject{Ref: ref, Reason: m.Reject.GetReason(), Retryable: m.Reject.GetRetryable()}, err
	case *tuskvaultv1.SessionRequest_Progress:
		ref, err := fromRef(m.Progress.GetAttempt())
		return &fleet.Progress{Ref: ref, Progress: fromProgress(m.Progress)}, err
	case *tuskvaultv1.SessionRequest_Log:
		ref, err := fromRef(m.Log.GetAttempt())
		line := catalog.LogLine{Fence: ref.Fence, Time: fromTime(m.Log.GetTime()), Level: m.Log.GetLevel(), Message: m.Log.GetMessage()}
		return &fleet.LogLine{Ref: ref, LogLine: line}, err
	case *tuskvaultv1.SessionRequest_Result:
		return fromSessionResult(m.Result)
	}
	// A message of a newer agent: its capability number told that it may come,
	// and dropping it silently would lose what it says.
	return nil, fmt.Errorf("session: a message this controller does not know: %w", errs.Unsupported)
}

func fromHello(h *tuskvaultv1.Hello) (fleet.Inbound, error) {
	running, err := fromRefs(h.GetRunning())
	if err != nil {
		return nil, err
	}
	return &fleet.Hello{Build: fromBuild(h.GetBuild()), Inventory: fromInventory(h.GetInventory()), Running: running,
		Witness: fromWitness(h.GetWitness()), Allow: h.GetAllow()}, nil
}

func fromSessionResult(r *tuskvaultv1.JobResult) (fleet.Inbound, error) {
	ref, err := fromRef(r.GetAttempt())
	if err != nil {
		return nil, err
	}
	result, err := fromResult(r)
	if err != nil {
		return nil, err
	}
	result.Fence = ref.Fence
	return &fleet.Result{Ref: ref, Result: result, Drill: fromDrillReport(r.GetDrill())}, nil
}

// toSession gives one message for an agent.
func toSession(m fleet.Outbound) (*tuskvaultv1.SessionResponse, error) {
	switch m := m.(type) {
	case *fleet.Welcome:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Welcome{Welcome: &tuskvaultv1.Welcome{
			Build: toBuild(m.Build), Epoch: m.Epoch, HeartbeatIntervalMs: m.Heartbeat.Milliseconds(), LeaseMs: m.Lease.Milliseconds(),
			Abandon: toRefs(m.Abandon), Witness: toWitness(m.Witness), AgentName: m.AgentName}}}, nil
	case *fleet.HeartbeatAck:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_HeartbeatAck{HeartbeatAck: &tuskvaultv1.HeartbeatAck{
			Time: toTime(m.Time), Witness: toWitness(m.Witness)}}}, nil
	case *fleet.Offer:
		return toOffer(m)
	case *fleet.Cancel:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Cancel{Cancel: &tuskvaultv1.JobCancel{
			Attempt: toRef(m.Ref), Reason: m.Reason}}}, nil
	case *fleet.ResultAck:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_ResultAck{ResultAck: &tuskvaultv1.JobResultAck{
			Attempt: toRef(m.Ref)}}}, nil
	case *fleet.SetLogLevel:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_SetLogLevel{SetLogLevel: &tuskvaultv1.SetAgentLogLevel{
			Level: m.Level}}}, nil
	case *fleet.InventoryRequest:
		return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_InventoryRequest{InventoryRequest: &tuskvaultv1.InventoryRequest{}}}, nil
	}
	return nil, fmt.Errorf("session: no wire form for %T: %w", m, errs.Unsupported)
}

func toOffer(o *fleet.Offer) (*tuskvaultv1.SessionResponse, error) {
	out := &tuskvaultv1.JobOffer{Attempt: toRef(o.Ref), Grant: toGrant(o.Grant)}
	switch {
	case o.Job.Backup != nil:
		out.Work = &tuskvaultv1.JobOffer_Backup{Backup: toBackupWork(o.Instance.Name, *o.Job.Backup)}
	case o.Job.Restore != nil:
		work := toRestoreWork(o.Instance.Name, *o.Job.Restore)
		work.PastBytesPerSecond, work.PastRestores = o.Past.BytesPerSecond, int32(o.Past.Restores)
		out.Work = &tuskvaultv1.JobOffer_Restore{Restore: work}
	case o.Job.Drill != nil:
		work := toDrillWork(*o.Job.Drill)
		work.Agent, work.Placement = "", nil // for people
		out.Work = &tuskvaultv1.JobOffer_Drill{Drill: work}
	default:
		return nil, fmt.Errorf("offer job %s: it has nothing to do: %w", o.Ref.Job.Short(), errs.Corrupt)
	}
	return &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: out}}, nil
}

func toGrant(g repo.Grant) *tuskvaultv1.Grant {
	out := &tuskvaultv1.Grant{DomainId: g.Domain[:], NameKey: g.Name[:], RefsKey: g.Refs[:],
		Cut: &tuskvaultv1.CutParams{Target: uint32(g.Params.Target), Min: uint32(g.Params.Min), Max: uint32(g.Params.Max)}}
	if g.Cut != (seal.Key{}) {
		out.CutKey = g.Cut[:]
	}
	for _, epoch := range slices.Sorted(maps.Keys(g.Seal)) {
		key := g.Seal[epoch]
		out.SealKeys = append(out.SealKeys, &tuskvaultv1.SealKey{Epoch: epoch, Key: key[:]})
	}
	return out
}
