package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// checkVersions judges the versions of the server and of the pg_dump that wrote
// the archives.
func (p *Plan) checkVersions(needs map[*repo.Database]*Needs) {
	v := p.Target.Version
	if floor, ok := pg.SecurityFloor(v.Major()); ok && v < floor {
		p.warn("", "server", fmt.Sprintf("version %s has known security holes, which %s mends", v, floor), fmt.Sprintf("update it to %s or later", floor))
	}
	for i := range p.Databases {
		d := p.Databases[i].Source
		n := needs[d]
		if n == nil || d.Archive == nil || len(n.Subscriptions) == 0 {
			continue
		}
		// pg_dump 17 and 18 write options of subscriptions that 16 does not know,
		// whatever the version of the source.
		if tool := d.Archive.Tool; tool.Major() >= 17 && v.Major() <= 16 {
			p.warn(d.Name, "subscription "+n.Subscriptions[0].Display(), fmt.Sprintf("pg_dump %s wrote it in words that version %d may not know", tool, v.Major()),
				fmt.Sprintf("restore to version %d or later, or back up with pg_dump %d", tool.Major(), v.Major()))
		}
	}
}

// checkEventTriggers warns of those that only a superuser can make.
func (p *Plan) checkEventTriggers(needs map[*repo.Database]*Needs) {
	if p.Target.Superuser {
		return
	}
	for i := range p.Databases {
		d := p.Databases[i].Source
		if n := needs[d]; n != nil && len(n.EventTriggers) > 0 {
			p.warn(d.Name, "event trigger "+n.EventTriggers[0].Display(), fmt.Sprintf("only a superuser can make event triggers, and the database has %d", len(n.EventTriggers)),
				"ALTER ROLE "+p.Target.Role.Quote()+" SUPERUSER;")
		}
	}
}

// leastSessions are needed at the same time at the very end: one that moves the
// names, one that ends the sessions of others.
const leastSessions = 2

// checkSessions compares the connections that are left with those wanted. The
// restore itself goes on with fewer, down to leastSessions.
func (p *Plan) checkSessions() {
	s := p.Target.Settings
	if s.MaxConnections == 0 {
		return
	}
	wanted := Jobs(p.Request.Jobs) + 1
	limit, object := s.MaxConnections, "max_connections"
	if !p.Target.Superuser {
		limit -= s.SuperuserReserved + s.Reserved
	}
	left := limit - p.Target.Traffic.Sessions
	hint := fmt.Sprintf("end some of the %d sessions there are, or raise max_connections (now %d) and restart the server", p.Target.Traffic.Sessions, s.MaxConnections)
	if !p.Target.Superuser && s.RoleLimit >= 0 && s.RoleLimit-s.RoleSessions < left {
		left, object = s.RoleLimit-s.RoleSessions, "role "+p.Target.Role.Display()
		hint = fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d;", p.Target.Role.Quote(), s.RoleSessions+wanted)
	}
	left = max(left, 0)
	switch {
	case left < leastSessions:
		p.refuse("", object, fmt.Sprintf("%d connections are left, a restore needs at least %d", left, leastSessions), hint)
	case left < wanted:
		p.warn("", object, fmt.Sprintf("%d connections are left, %d are wanted: fewer sessions will load", left, wanted), hint+fmt.Sprintf("; or ask for fewer: --jobs %d", max(left-1, 1)))
	}
}

// checkLocks compares the lock table with the statement that locks most.
func (p *Plan) checkLocks(needs map[*repo.Database]*Needs) {
	s := p.Target.Settings
	if s.LocksPerTransaction == 0 {
		return
	}
	sure := s.LocksPerTransaction * (s.MaxConnections + s.PreparedTransactions)
	// Other processes count too, and the server keeps a tenth more and a bit of room
	// for what is beyond: only past that a lock is certain to be refused.
	most := s.LocksPerTransaction * (s.MaxConnections + s.PreparedTransactions + s.OtherProcesses) * 3 / 2
	for i := range p.Databases {
		d := p.Databases[i].Source
		n := needs[d]
		if n == nil || n.Locks*5 <= sure*4 {
			continue
		}
		want := (n.Locks*5/4+s.MaxConnections+s.PreparedTransactions-1)/(s.MaxConnections+s.PreparedTransactions) + 1
		reason := fmt.Sprintf("%d relations are locked at once, with partitions and indexes; the lock table has room for %d, shared with everybody", n.Locks, sure)
		hint := fmt.Sprintf("ALTER SYSTEM SET max_locks_per_transaction = %d; then restart the server", max(want, s.LocksPerTransaction+1))
		if n.Locks > most {
			p.refuse(d.Name, "table "+n.LocksBy, reason, hint)
		} else {
			p.warn(d.Name, "table "+n.LocksBy, reason, hint)
		}
	}
}

// checkDirectories judges the folders where tablespaces will be made.
func (p *Plan) checkDirectories() {
	for _, t := range p.Globals.Tablespaces {
		object := "tablespace " + t.Name.Display()
		wrong, known := p.Target.Directories[t.Location]
		switch {
		case !known && p.Target.Directories != nil:
			p.unchecked(object, "its folder "+t.Location+" cannot be looked at through the server", "GRANT pg_read_server_files TO "+p.Target.Role.Quote()+";")
		case wrong != "":
			p.refuse("", object, "its folder "+t.Location+" "+wrong,
				fmt.Sprintf("on the server's host: install -d -m 700 -o postgres -g postgres %s; or CREATE TABLESPACE %s LOCATION 'another folder';", t.Location, t.Name.Quote()))
		}
	}
}

// quietBytes is the size below which a restore's write-ahead log is nobody's concern.
const quietBytes = 256 << 20

// checkWAL tells what a lot of write-ahead log will meet.
func (p *Plan) checkWAL(sizes []spaceSizes) {
	s, a, volume := p.Target.Settings, p.Target.Traffic, sum(sizes)
	if !a.ArchiverFailing.IsZero() {
		p.warn("", "archive_command", fmt.Sprintf("archiving fails since %s at segment %s: what the restore writes, about %s of WAL, stays in pg_wal until it works again",
			a.ArchiverFailing.UTC().Format(time.DateTime), a.ArchiverStuck, size(volume)), "mend archive_command (the server's log says why it fails) and see that pg_stat_archiver.last_archived_time moves")
	}
	if len(a.IdleSlots) > 0 && s.MaxSlotWAL < 0 {
		p.warn("", "replication slot "+a.IdleSlots[0].Display(), fmt.Sprintf("nobody reads from it%s: what the restore writes, about %s of WAL, stays in pg_wal",
			others(len(a.IdleSlots)-1), size(volume)), "SELECT pg_drop_replication_slot("+a.IdleSlots[0].Literal()+"); if it is not needed any more, or set max_slot_wal_keep_size")
	}
	if volume < quietBytes {
		return
	}
	if a.Standbys > 0 {
		p.warn("", "standbys", fmt.Sprintf("%d stream from this server: each receives what the restore writes, about %s of WAL", a.Standbys, size(volume)),
			"watch their lag in pg_stat_replication")
	}
	if s.MaxWAL > 0 && s.MaxWAL < 4<<30 && s.MaxWAL < volume/4 {
		p.warn("", "max_wal_size", fmt.Sprintf("it is %s, the restore writes about %s of WAL: checkpoints will come often and slow it down", size(s.MaxWAL), size(volume)),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_size = '%dGB'; SELECT pg_reload_conf();", min(max(volume/(2<<30), 4), 64)))
	}
}

func others(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", nor from another one"
	}
	return fmt.Sprintf(", nor from %d others", n)
}

// checkExtensions judges what making the extensions needs beyond their being there.
func (p *Plan) checkExtensions(needs map[*repo.Database]*Needs) {
	for i := range p.Databases {
		d := p.Databases[i].Source
		n := needs[d]
		if n == nil {
			continue
		}
		recorded := map[pg.Name]string{}
		for _, x := range d.Extensions {
			recorded[x.Name] = x.Version
		}
		for _, name := range slices.Sorted(maps.Keys(n.Extensions)) {
			if standard, ok := p.Target.Extensions[name]; ok { // else it is refused already
				p.checkExtension(d.Name, name, recorded[name], standard)
			}
		}
	}
}

func (p *Plan) checkExtension(database, name pg.Name, recorded, standard string) {
	object := "extension " + name.Display()
	available := p.Target.Versions[name]
	installed := slices.IndexFunc(available, func(v ExtensionVersion) bool { return v.Version == standard })
	if installed >= 0 && available[installed].Superuser && !available[installed].Trusted && !p.Target.Superuser {
		p.refuse(database, object, "only a superuser can create it, and the role is none", "ALTER ROLE "+p.Target.Role.Quote()+" SUPERUSER;")
	}
	p.checkPreload(database, name, object)
	if recorded == "" || standard == "" || recorded == standard {
		return
	}
	reason := fmt.Sprintf("version %s in the snapshot, %s on the server", recorded, standard)
	switch order, ok := compareVersions(recorded, standard); {
	case !ok || order < 0:
		p.warn(database, object, reason, "look into its release notes for what changed in between")
	case slices.ContainsFunc(available, func(v ExtensionVersion) bool { return v.Version == recorded }):
		p.warn(database, object, reason+": an older one is the server's default, and objects that use what is new cannot be made",
			fmt.Sprintf("set default_version = '%s' in %s.control on the server's host", recorded, name.Display()))
	default:
		p.warn(database, object, reason+", which has none that is as new: objects that use what is new cannot be made",
			fmt.Sprintf("install a package with extension %s %s or later on the server's host", name.Display(), recorded))
	}
}
