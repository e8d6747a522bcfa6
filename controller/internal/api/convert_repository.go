package api

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/scrub"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func toCheck(s scrub.State) *tuskvaultv1.Check {
	out := &tuskvaultv1.Check{Id: s.ID.String(), State: tuskvaultv1.CheckState(s.State), CreatedBy: s.By, ReadData: s.ReadData, SampleMillionths: int32(s.Sample), Seed: s.Seed,
		StartTime: toTime(s.Started), EndTime: toTime(s.Ended), Message: s.Message, Snapshots: s.Snapshots, Packs: s.Packs, Chunks: s.Chunks,
		PacksRead: s.PacksRead, FramesRead: s.FramesRead, BytesRead: s.BytesRead, DamagedObjects: s.Harm, Findings: s.FindingsTotal,
		SnapshotsHurt: s.HurtTotal, Untraced: s.Untraced, Resumed: s.Resumed, Copy: s.Copy}
	if s.State == catalog.CheckRunning {
		p := s.Progress
		out.Progress = &tuskvaultv1.CheckProgress{Phase: string(p.Phase), DomainsDone: int32(p.DomainsDone), Domains: int32(p.Domains), Packs: p.Packs,
			PacksChecked: p.PacksChecked, PacksRead: p.PacksRead, BytesRead: p.BytesRead, DamagedObjects: p.Harm}
	}
	return out
}

// findingsPage cuts a page out of a check's findings, which are few and in no
// order of keys: the token is a position, of this very check.
func findingsPage(c catalog.Check, p catalog.Page) ([]catalog.CheckFinding, string, error) {
	at := 0
	if p.Token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(p.Token)
		id, position, ok := strings.Cut(string(raw), " ")
		if err == nil && ok && id == c.ID.String() {
			at, err = strconv.Atoi(position)
		}
		if err != nil || !ok || id != c.ID.String() || at < 0 || at > len(c.Findings) {
			return nil, "", field("page.token", "is no token of an earlier answer about this check")
		}
	}
	rows, bytes := c.Findings[at:], 0
	for n, f := range rows {
		if bytes += proto.Size(toFinding(f, nil)); n == p.Size || n > 0 && bytes > maxPageBytes {
			return rows[:n], base64.RawURLEncoding.EncodeToString([]byte(c.ID.String() + " " + strconv.Itoa(at+n))), nil
		}
	}
	return rows, "", nil
}

func toFinding(f catalog.CheckFinding, names namesByID) *tuskvaultv1.CheckFinding {
	out := &tuskvaultv1.CheckFinding{Object: f.Object, Problem: f.Problem, Detail: strings.ToValidUTF8(f.Detail, "?"), Harmless: f.Harmless, Chunks: f.Chunks, EffectsMore: f.EffectsMore}
	for _, e := range f.Effects {
		out.Effects = append(out.Effects, &tuskvaultv1.CheckEffect{SnapshotId: e.Snapshot.String(), Instance: names.of(e.Instance), Database: e.Database, Object: e.Object})
	}
	return out
}

// toStats puts together what the store and what the catalog say.
func toStats(m *check.Measured, uses map[seal.DomainID]*domainUse) *tuskvaultv1.GetRepositoryStatsResponse {
	out := &tuskvaultv1.GetRepositoryStatsResponse{StoredBytes: m.Bytes()}
	for kind, n := range m.Objects {
		out.Objects = append(out.Objects, &tuskvaultv1.ObjectStats{Kind: kind, Objects: n.Objects, Bytes: n.Bytes})
	}
	slices.SortFunc(out.Objects, func(a, b *tuskvaultv1.ObjectStats) int {
		return strings.Compare(a.GetKind(), b.GetKind())
	})
	for _, d := range m.Domains {
		u := uses[d.Domain]
		if u == nil {
			u = &domainUse{}
		}
		out.Domains = append(out.Domains, &tuskvaultv1.DomainStats{Id: d.Domain.String(), Instances: u.instances, Snapshots: u.snapshots, Packs: d.Packs, PackBytes: d.Bytes,
			Chunks: d.Frames, ChunkReferences: u.refs, PlainBytes: u.plains, DedupFactor: ratio(u.refs, d.Frames), Reduction: ratio(u.plains, d.Bytes)})
		out.Packs += d.Packs
		out.FrameBytes += d.FrameBytes
	}
	for _, u := range uses {
		out.Snapshots += u.snapshots
		out.PlainBytes += u.plains
	}
	// Ballast is room kept free, and nothing that a stored byte costs.
	out.Overhead = ratio(out.GetStoredBytes()-m.Objects["ballast"].Bytes-out.GetFrameBytes(), out.GetFrameBytes())
	return out
}

func toStoreFeatures(f catalog.StoreFeatures) *tuskvaultv1.StoreFeatures {
	return &tuskvaultv1.StoreFeatures{Location: f.Location, AtomicCreate: f.AtomicCreate, Versions: f.Versions, Lock: f.Lock, Encryption: f.Encryption,
		StorageClass: f.StorageClass, SeparateDeletes: f.SeparateDeletes, Warnings: f.Warnings}
}

// ratio gives 0 where there is nothing to compare with.
func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
