package api

import (
	"strings"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/prune"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func toPrune(s prune.State) *tuskvaultv1.Prune {
	out := &tuskvaultv1.Prune{Id: s.ID.String(), State: tuskvaultv1.PruneState(s.State), CreatedBy: s.By, DryRun: s.DryRun, StartTime: toTime(s.Started), EndTime: toTime(s.Ended),
		Message: strings.ToValidUTF8(s.Message, "?"), Domains: int64(len(s.Outcomes))}
	for _, o := range s.Outcomes {
		out.CondemnedPacks += o.DeadPacks + o.RepackPacks
		out.CondemnedBytes += o.DeadBytes + o.RepackBytes
		out.CopyBytes += o.RepackLive
		out.FreedBytes += o.FreedBytes
		out.WaitingBytes += o.WaitingBytes
	}
	if s.State == catalog.PruneRunning {
		out.Progress = &tuskvaultv1.PruneProgress{DomainsDone: int32(s.Progress.DomainsDone), Domains: int32(s.Progress.Domains)}
		if s.Progress.Domains > 0 {
			out.Progress.Domain = s.Progress.Domain.String()
		}
	}
	return out
}

func toPruneOutcome(o catalog.PruneOutcome, use *domainUse) *tuskvaultv1.PruneOutcome {
	out := &tuskvaultv1.PruneOutcome{Domain: o.Domain.String(), Packs: o.Packs, Bytes: o.Bytes, Chunks: o.Frames, DeadPacks: o.DeadPacks, DeadBytes: o.DeadBytes,
		RepackPacks: o.RepackPacks, RepackBytes: o.RepackBytes, RepackLiveBytes: o.RepackLive, LeftBytes: o.LeftBytes, FreedPacks: o.FreedPacks, FreedBytes: o.FreedBytes,
		CopiedBytes: o.CopiedBytes, WaitingPacks: o.WaitingPacks, WaitingBytes: o.WaitingBytes, WaitsFor: strings.ToValidUTF8(o.WaitsFor, "?"),
		Problem: strings.ToValidUTF8(o.Problem, "?"), DeferredPacks: o.DeferredPacks}
	if use != nil {
		out.Instances = use.instances
	}
	return out
}
