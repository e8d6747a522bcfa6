package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// snapshotService is SnapshotService.
type snapshotService struct {
	tuskvaultv1.UnimplementedSnapshotServiceServer
	deps  Deps
	cache *manifestCache
}

// ListSnapshots lists snapshots, newest first.
func (s *snapshotService) ListSnapshots(ctx context.Context, r *tuskvaultv1.ListSnapshotsRequest) (*tuskvaultv1.ListSnapshotsResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	selector, err := ParseSelector(r.GetSelector())
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.ListSnapshotsResponse{}
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, next, err := listSnapshots(tx, page, r.GetInstance(), selector)
		if err != nil {
			return err
		}
		for _, row := range rows {
			drills, err := tx.Drills(row.ID)
			if err != nil {
				return err
			}
			out.Snapshots = append(out.Snapshots, verified(toSnapshot(row), drills))
		}
		out.Page = toPage(next)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return out, nil
}

func listSnapshots(tx *catalog.Tx, page catalog.Page, instance string, selector Selector) ([]catalog.Snapshot, string, error) {
	keep := func(catalog.Snapshot) bool { return true }
	if !selector.Empty() {
		matches := make(map[repo.AgentID]bool) // one look-up an agent
		keep = func(s catalog.Snapshot) bool {
			match, known := matches[s.Agent]
			if !known {
				a, err := tx.Agent(s.Agent)
				match = err == nil && selector.Matches(a.Labels)
				matches[s.Agent] = match
			}
			return match
		}
	}
	if instance != "" {
		i, err := findInstance(tx, "instance", instance)
		if err != nil {
			return nil, "", err
		}
		if selector.Empty() {
			return tx.SnapshotsOf(i.ID, page)
		}
		labels := keep
		keep = func(s catalog.Snapshot) bool { return s.Instance == i.ID && labels(s) }
	}
	return tx.Snapshots(page, keep)
}

// read resolves a reference and reads the snapshot's manifest. What was read is
// audited before it is answered.
func (s *snapshotService) read(ctx context.Context, ref, what string) (catalog.Snapshot, *repo.Content, error) {
	c, err := CallerFrom(ctx)
	if err != nil {
		return catalog.Snapshot{}, nil, err
	}
	var snapshot catalog.Snapshot
	err = s.deps.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		snapshot, err = findSnapshot(tx, ref)
		return err
	})
	if err != nil {
		return snapshot, nil, err
	}
	content, err := s.cache.content(ctx, snapshot)
	if err != nil {
		return snapshot, nil, fmt.Errorf("snapshot %s: read manifest: %w", snapshot.ID.Short(), err)
	}
	if err := s.deps.Trail.Record(ctx, record(c, "snapshot.read", "snapshot "+snapshot.ID.String(), what)); err != nil {
		return snapshot, nil, err
	}
	return snapshot, content, nil
}

// GetSnapshot shows one snapshot with its databases.
func (s *snapshotService) GetSnapshot(ctx context.Context, r *tuskvaultv1.GetSnapshotRequest) (*tuskvaultv1.GetSnapshotResponse, error) {
	snapshot, content, err := s.read(ctx, r.GetSnapshot(), "databases")
	if err != nil {
		return nil, fmt.Errorf("show snapshot: %w", err)
	}
	out := &tuskvaultv1.GetSnapshotResponse{Snapshot: toSnapshot(snapshot), Problems: toContentProblems(content.Problems)}
	if err := s.addDrills(ctx, out, snapshot); err != nil {
		return nil, fmt.Errorf("show snapshot: %w", err)
	}
	if content.Logical == nil {
		return out, nil
	}
	out.Roles = int32(min(len(content.Logical.Globals.Roles), 1<<30))
	for _, d := range content.Logical.Databases {
		out.Databases = append(out.Databases, toSnapshotDatabase(d))
		if d.Archive != nil {
			out.DumpTool = versionText(int32(d.Archive.Tool))
		}
	}
	return out, nil
}

// ListSnapshotTables lists the tables of a snapshot by database, schema and name.
func (s *snapshotService) ListSnapshotTables(ctx context.Context, r *tuskvaultv1.ListSnapshotTablesRequest) (*tuskvaultv1.ListSnapshotTablesResponse, error) {
	page, err := parsePage(r.GetPage())
	if err != nil {
		return nil, err
	}
	_, content, err := s.read(ctx, r.GetSnapshot(), "tables")
	if err != nil {
		return nil, fmt.Errorf("list tables of snapshot: %w", err)
	}
	rows, err := tablesOf(content, r.GetDatabase())
	if err != nil {
		return nil, fmt.Errorf("list tables of snapshot: %w", err)
	}
	rows, next, err := take(rows, page, tableKey)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.ListSnapshotTablesResponse{Tables: rows, Page: toPage(next)}, nil
}

// tablesOf gives the tables of one database, or of all, in order.
func tablesOf(content *repo.Content, database string) ([]*tuskvaultv1.SnapshotTable, error) {
	var rows []*tuskvaultv1.SnapshotTable
	var names []string
	found := database == ""
	if content.Logical != nil {
		for _, d := range content.Logical.Databases {
			name := d.Name.Display()
			names = append(names, name)
			if database != "" && name != database {
				continue
			}
			found = true
			for _, t := range d.Tables {
				rows = append(rows, toSnapshotTable(name, t))
			}
		}
	}
	if !found {
		if len(database) > maxReference {
			return nil, field("database", "has %d bytes, at most %d are taken", len(database), maxReference)
		}
		return nil, notFound("database", database, names)
	}
	slices.SortFunc(rows, func(a, b *tuskvaultv1.SnapshotTable) int { return strings.Compare(tableKey(a), tableKey(b)) })
	return rows, nil
}

// tableKey orders tables; display names hold no byte 0.
func tableKey(t *tuskvaultv1.SnapshotTable) string {
	return t.GetDatabase() + "\x00" + t.GetSchema() + "\x00" + t.GetName()
}

func toSnapshot(s catalog.Snapshot) *tuskvaultv1.Snapshot {
	return &tuskvaultv1.Snapshot{Id: s.ID.String(), Instance: s.InstanceName, Kind: string(s.Kind), StartTime: toTime(s.Started), CommitTime: toTime(s.Committed),
		Complete: s.Complete, Databases: s.Databases, Rows: s.Rows, PlainBytes: s.PlainBytes, StoredBytes: s.StoredBytes,
		ServerVersionNum: s.ServerVersion, SystemIdentifier: s.SystemIdentifier, Incarnation: s.Incarnation,
		Forgotten: toForgotten(s.Forgotten), Hold: toHold(s.Hold), PurgeTime: toTime(s.Purged)}
}

func toForgotten(f catalog.Forgotten) *tuskvaultv1.SnapshotForgotten {
	if f.Time.IsZero() {
		return nil
	}
	return &tuskvaultv1.SnapshotForgotten{Time: toTime(f.Time), By: f.By, Reason: f.Reason, PurgeAfterTime: toTime(f.PurgeAfter)}
}

// toHold gives a hold that is in force; one that has run out holds nothing.
func toHold(h catalog.Hold) *tuskvaultv1.SnapshotHold {
	if !h.Active(time.Now()) {
		return nil
	}
	return &tuskvaultv1.SnapshotHold{UntilTime: toTime(h.Until), By: h.By, Reason: h.Reason, Time: toTime(h.Time)}
}

func toSnapshotDatabase(d repo.Database) *tuskvaultv1.SnapshotDatabase {
	out := &tuskvaultv1.SnapshotDatabase{Name: d.Name.Display(), State: string(d.State), Problems: toContentProblems(d.Problems),
		Lsn: uint64(d.LSN), Time: toTime(d.Time), Encoding: d.Encoding}
	for _, t := range d.Tables {
		if t.Omitted == "" {
			out.Tables++
		}
		row := toSnapshotTable("", t)
		out.Rows += row.Rows
		out.PlainBytes += row.PlainBytes
	}
	if d.LargeObjects != nil {
		out.LargeObjects = d.LargeObjects.Count
		out.PlainBytes += d.LargeObjects.Data.Bytes
	}
	for _, e := range d.Extensions {
		out.Extensions = append(out.Extensions, e.Name.Display())
	}
	return out
}

// toSnapshotTable gives a table. Its rows are those of all its runs where runs
// tell more than the table does (binary runs beside text ones).
func toSnapshotTable(database string, t repo.Table) *tuskvaultv1.SnapshotTable {
	out := &tuskvaultv1.SnapshotTable{Database: database, Schema: t.Schema.Display(), Name: t.Name.Display(), Rows: t.Rows,
		Fingerprint: t.Fingerprint.String(), Omitted: t.Omitted}
	for _, r := range t.Runs {
		out.PlainBytes += r.Stream.Bytes
		if r.Binary {
			out.Rows += r.Rows
		}
	}
	return out
}

func toContentProblems(list []repo.Problem) []*tuskvaultv1.Problem {
	var out []*tuskvaultv1.Problem
	for _, p := range list {
		severity := tuskvaultv1.Severity_SEVERITY_WARNING
		if p.Severity == "error" {
			severity = tuskvaultv1.Severity_SEVERITY_ERROR
		}
		out = append(out, &tuskvaultv1.Problem{Severity: severity, Database: p.Database.Display(), Object: strings.ToValidUTF8(p.Object, "?"),
			Reason: strings.ToValidUTF8(p.Reason, "?"), Hint: strings.ToValidUTF8(p.Hint, "?")})
	}
	return out
}

// versionText gives a server_version_num as people write it.
func versionText(v int32) string {
	switch {
	case v <= 0:
		return ""
	case v >= 100000:
		return fmt.Sprintf("%d.%d", v/10000, v%10000)
	}
	return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100)
}
