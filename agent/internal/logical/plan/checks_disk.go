package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// diskLoad is what a file system must take.
type diskLoad struct {
	path       string
	free       int64
	need, peak int64 // of databases, now and at most
	wal        int64
}

// checkDisk compares free space with what the databases take at most at a time:
// they come one after the other, and one that is replaced goes only when its
// successor is in place. The estimate counts bloat that a restore does not bring
// back, so only what is clearly too little is refused.
func (p *Plan) checkDisk(sizes []spaceSizes) {
	d := p.Target.Disk
	if d.Unchecked != "" {
		p.unchecked("free disk", d.Unchecked, d.Hint)
		return
	}
	loads := map[uint64]*diskLoad{}
	at := func(s Space) *diskLoad {
		if loads[s.Device] == nil {
			loads[s.Device] = &diskLoad{path: s.Path, free: s.Free}
		}
		return loads[s.Device]
	}
	replaced := false
	for i, size := range sizes {
		for _, name := range slices.Sorted(maps.Keys(size)) {
			if s, ok := d.Spaces[name]; ok {
				l := at(s)
				l.need += size[name]
				l.peak = max(l.peak, l.need)
			}
		}
		if plan := &p.Databases[i]; plan.Replaced != "" {
			replaced = true
			if s, ok := d.Spaces[pg.Name("pg_default")]; ok { // where most of them are
				at(s).need -= p.Target.Databases[plan.Target].Size
			}
		}
	}
	if d.WAL.Path != "" {
		at(d.WAL).wal = p.walAtOnce(sum(sizes))
	}
	for _, device := range slices.Sorted(maps.Keys(loads)) {
		p.judge(loads[device], replaced)
	}
}

// walAtOnce estimates how much write-ahead log the restore leaves on disk at a
// time: max_wal_size, unless nothing may be removed.
func (p *Plan) walAtOnce(volume int64) int64 {
	kept := !p.Target.Traffic.ArchiverFailing.IsZero() || len(p.Target.Traffic.IdleSlots) > 0 && p.Target.Settings.MaxSlotWAL < 0
	if kept {
		return volume
	}
	return min(p.Target.Settings.MaxWAL, volume)
}

func (p *Plan) judge(l *diskLoad, replaced bool) {
	var needs []string
	if l.peak > 0 {
		needs = append(needs, "the databases need about "+size(l.peak))
		if replaced {
			needs[0] += " while those that they replace are still there"
		}
	}
	if l.wal > 0 {
		needs = append(needs, "WAL up to "+size(l.wal))
	}
	reason := size(l.free) + " are free, " + strings.Join(needs, ", and ")
	hint := func(want int64) string {
		return fmt.Sprintf("free at least %s on the file system of %s, or restore fewer databases at a time", size(want-l.free), l.path)
	}
	switch all := l.peak + l.wal; {
	case l.free < l.peak/4*3:
		p.refuse("", "disk "+l.path, reason, hint(all+all/5))
	case l.free < all+all/5:
		p.warn("", "disk "+l.path, reason, hint(all+all/5))
	}
}
