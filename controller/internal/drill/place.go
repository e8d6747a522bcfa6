// Package drill decides where a drill is held. It is a pure function over what
// the catalog knows; who may hold one at all is the catalog's and an admin's
// word, and what agents say of themselves only chooses among those.
package drill

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Capability is the lowest capability number of an agent that can hold drills.
const Capability = 2

// Allow is the word that an agent's own file must have.
const Allow = "drill"

// spareBytes is what a server takes beside the databases: its templates and its log.
const spareBytes = 512 << 20

// Wish is what is to be restored.
type Wish struct {
	// Version of the source, like server_version_num.
	Version int32
	// Extensions that the databases need.
	Extensions []string
	// HeapBytes is the size of the tables and large objects at the source, of the
	// largest database: each is dropped before the next one is restored.
	HeapBytes int64
	// Agent, when it is named, is the only one that is looked at.
	Agent string
}

// Ties are how an agent stands to a snapshot. Without any it never holds a drill of it.
type Ties struct {
	// Home: its instance is the one that was backed up.
	Home bool
	// Member: one of its instances shares the snapshot's domain.
	Member bool
	// Role: an admin lets it hold drills of any snapshot.
	Role bool
}

// Permitted tells whether the agent may be given the snapshot's keys for a drill.
func (t Ties) Permitted() bool { return t.Home || t.Member || t.Role }

// TiesOf finds out how an agent with these instances stands to a snapshot.
func TiesOf(a catalog.Agent, instances []catalog.Instance, snapshot repo.InstanceID, domain seal.DomainID) Ties {
	t := Ties{Role: a.Drills}
	for _, i := range instances {
		// The instance a snapshot is of keeps its right also when it has left the
		// domain: the rows were its own.
		t.Home = t.Home || i.ID == snapshot && i.Agent == a.ID
		t.Member = t.Member || i.Domain == domain && i.Agent == a.ID
	}
	return t
}

// Candidate is an agent that may be looked at.
type Candidate struct {
	// Agent with what it said of its program and its file.
	Agent catalog.Agent
	// Ties to the snapshot.
	Ties Ties
	// Online tells that it has a session.
	Online bool
	// Busy tells that it holds a drill already.
	Busy bool
	// Inventory is what it found; its zero value when it has not said.
	Inventory catalog.Inventory
}

// Choice is where a drill is held.
type Choice struct {
	// Agent that was chosen.
	Agent catalog.Agent
	// Lines say why that one, and why none of the others.
	Lines []string
}

// maxLines bounds Choice.Lines; the rest is counted.
const maxLines = 100

// Place chooses. Of those that can, the snapshot's own host comes first, then
// members of its domain, then agents with the role; among equals the one with
// the server of the same major version, then the one that is not busy, then the
// one with most free disk. When nobody can the error has the reason of each, and
// its kind is Conflict.
func Place(w Wish, all []Candidate) (Choice, error) {
	var refused []string
	var fit []Candidate
	for _, c := range all {
		if w.Agent != "" && c.Agent.Name != w.Agent {
			continue
		}
		if why := refusal(w, c); why != "" {
			refused = append(refused, c.Agent.Name+": "+why)
			continue
		}
		fit = append(fit, c)
	}
	slices.SortStableFunc(fit, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(kin(a.Ties), kin(b.Ties)), cmp.Compare(older(w, a), older(w, b)), cmp.Compare(number(a.Busy), number(b.Busy)),
			cmp.Compare(b.Inventory.Drill.FreeDiskBytes, a.Inventory.Drill.FreeDiskBytes), cmp.Compare(a.Agent.Name, b.Agent.Name))
	})
	if len(fit) == 0 {
		return Choice{}, nobody(w, refused)
	}
	best := fit[0]
	lines := []string{fmt.Sprintf("%s: chosen, %s; PostgreSQL %s in %s", best.Agent.Name, tieText(best.Ties), version(server(w, best).Version), server(w, best).Folder)}
	for _, c := range fit[1:] {
		lines = append(lines, c.Agent.Name+": could hold it too, "+tieText(c.Ties))
	}
	return Choice{Agent: best.Agent, Lines: bound(append(lines, refused...))}, nil
}

// nobody words that no agent can hold the drill, and what to do.
func nobody(w Wish, refused []string) error {
	if w.Agent != "" && len(refused) == 0 {
		return fmt.Errorf("agent %s may not hold it: it is neither the snapshot's host nor a member of its domain, and has not the role drill: %w", w.Agent, errs.Denied)
	}
	if len(refused) == 0 {
		refused = []string{"there is no agent that may"}
	}
	return fmt.Errorf("no agent can hold the drill: %s: %w", strings.Join(bound(refused), "; "), errs.Conflict)
}

func bound(lines []string) []string {
	if left := len(lines) - maxLines; left > 0 {
		lines = append(lines[:maxLines:maxLines], fmt.Sprintf("and %d more", left))
	}
	return lines
}

// refusal says why a candidate cannot hold the drill, or "".
func refusal(w Wish, c Candidate) string {
	free, need := c.Inventory.Drill.FreeDiskBytes, Need(w.HeapBytes)
	switch {
	case c.Agent.State != catalog.AgentActive:
		return "it is " + c.Agent.State.String()
	case !c.Ties.Permitted():
		return "it is neither the snapshot's host nor a member of its domain, and has not the role drill"
	case len(c.Agent.Allow) > 0 && !slices.Contains(c.Agent.Allow, Allow):
		return "its own configuration does not allow drill"
	case !c.Online:
		return "it is offline"
	case c.Agent.Build.Capability < Capability:
		return fmt.Sprintf("its program is too old (capability %d, drills need %d)", c.Agent.Build.Capability, Capability)
	case c.Inventory.Drill.Refusal != "":
		return c.Inventory.Drill.Refusal
	}
	s := server(w, c)
	switch {
	case s.Version == 0:
		return fmt.Sprintf("it has no server programs of PostgreSQL %d or later%s", major(w.Version), installed(c.Inventory.Drill.Servers))
	case free < need:
		return fmt.Sprintf("its drill folder has %s free, this needs about %s", size(free), size(need))
	}
	if missing := lacks(w, s); len(missing) > 0 {
		return fmt.Sprintf("PostgreSQL %s there lacks the extensions %s", version(s.Version), strings.Join(missing, ", "))
	}
	return ""
}

// Need is about how many bytes a database takes whose tables took heap at the
// source: indexes are commonly as large, and what is loaded goes through the log.
func Need(heap int64) int64 { return 2*heap + spareBytes }

// server picks the installation: of the same major version, else of the nearest
// newer one; of several the first that lacks no extension.
func server(w Wish, c Candidate) catalog.ServerInstallation {
	var best catalog.ServerInstallation
	for _, s := range c.Inventory.Drill.Servers {
		switch {
		case major(s.Version) < major(w.Version):
		case best.Version == 0, major(s.Version) < major(best.Version),
			major(s.Version) == major(best.Version) && len(lacks(w, best)) > 0 && len(lacks(w, s)) == 0:
			best = s
		}
	}
	return best
}

// lacks lists extensions that an installation is known not to have.
func lacks(w Wish, s catalog.ServerInstallation) []string {
	var missing []string
	for _, x := range w.Extensions {
		if s.ExtensionsKnown && !slices.Contains(s.Extensions, x) && !slices.Contains(missing, x) {
			missing = append(missing, x)
		}
	}
	slices.Sort(missing)
	return missing
}

func installed(all []catalog.ServerInstallation) string {
	if len(all) == 0 {
		return "; install postgresql there"
	}
	var text []string
	for _, s := range all {
		text = append(text, version(s.Version)+" in "+s.Folder)
	}
	return ", only " + strings.Join(text, ", ")
}

// kin orders candidates by how near they are to the data.
func kin(t Ties) int {
	switch {
	case t.Home:
		return 0
	case t.Member:
		return 1
	}
	return 2
}

func tieText(t Ties) string {
	return [...]string{"the snapshot's own host", "a member of the snapshot's domain", "it has the role drill"}[kin(t)]
}

// older tells how many majors newer the server is than the source.
func older(w Wish, c Candidate) int32 { return major(server(w, c).Version) - major(w.Version) }

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func major(version int32) int32 { return version / 10000 }

func version(v int32) string {
	if v >= 100000 {
		return fmt.Sprintf("%d.%d", v/10000, v%10000)
	}
	return fmt.Sprint(v)
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
