package plan

import (
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Words by which Plan.Err finds the kind of a refusal.
const (
	matchesNothing = "matches nothing in the snapshot"
	// DamagedRows begins what is said of a table whose rows are not all there.
	DamagedRows = "rows cannot be read whole"
)

// choice judges what was selected of a database. named tells whether databases
// were named: then each pattern must match in each of them.
func (p *Plan) choice(database pg.Name, c *Chosen, named bool) {
	if named {
		p.unmatched(database, c.Unmatched)
	}
	if !p.Request.Live || !p.Request.Replace { // in place, what hangs on the table in use stays as it is
		for _, n := range c.LeftOut {
			p.warn(database, n.Object, n.Reason, "")
		}
	}
	for _, n := range c.Unsure {
		p.warn(database, n.Object, n.Reason, "look at it after the restore")
	}
	for i, d := range c.Damaged {
		if i == maxDamaged {
			p.damaged(database, Damage{"and more", fmt.Sprintf("%d further tables", len(c.Damaged)-i)})
			return
		}
		p.damaged(database, d)
	}
}

// maxDamaged bounds the damaged tables that are told of one database.
const maxDamaged = 200

// damaged refuses a table whose rows are not all there, or says that it stays empty.
func (p *Plan) damaged(database pg.Name, d Damage) {
	switch {
	case p.Request.Live && p.Request.Replace:
		p.refuse(database, d.Object, DamagedRows+": "+d.Reason, "a table in use is never emptied; restore another snapshot, or select other tables")
	case p.Request.SkipDamaged:
		p.Warnings = append(p.Warnings, repo.Problem{Severity: "error", Database: database, Object: d.Object,
			Reason: DamagedRows + ", it is left empty: " + d.Reason, Hint: "look for its rows in another snapshot"})
	default:
		p.refuse(database, d.Object, DamagedRows+": "+d.Reason, "restore everything else (--skip-damaged), or another snapshot")
	}
}

// unmatched refuses patterns that match nothing.
func (p *Plan) unmatched(database pg.Name, all []selection.Miss) {
	for _, m := range all {
		hint := `what there is: "tuskctl snapshot tables"; a name with capitals or other signs is written in double quotes`
		if len(m.Near) > 0 {
			hint = "near matches: " + strings.Join(m.Near, ", ")
		}
		p.refuse(database, m.Pattern, matchesNothing, hint)
	}
}

// choiceLines say what was selected, what comes along, and what that may break.
func (d *DatabasePlan) choiceLines() []string {
	c := d.Chosen
	if c == nil || !c.Selective {
		return nil
	}
	all := []string{fmt.Sprintf("  selected: %d tables with rows; fetches %s of rows in %d chunks, before compression", d.Tables, size(d.Bytes), d.Chunks)}
	for i, t := range c.Tables {
		if i == maxListed {
			all = append(all, fmt.Sprintf("    and %d more", len(c.Tables)-i))
			break
		}
		all = append(all, fmt.Sprintf("    table %s: %d rows", t.Name, t.Rows))
	}
	for _, n := range c.Along {
		all = append(all, fmt.Sprintf("  comes along: %s, %s", n.Object, n.Reason))
	}
	all = append(all, "  what holds between tables is not restored by some of them: totals, references and the like may not agree with tables that are left out")
	return all
}

// maxListed bounds the tables that a plan lists.
const maxListed = 100
