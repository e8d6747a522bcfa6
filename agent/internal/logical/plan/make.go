package plan

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Application is what pg_stat_activity shows of the sessions.
const Application = "tuskvault restore"

// MaxJobs bounds the parallel sessions of one restore.
const MaxJobs = 64

// Jobs gives the number of parallel sessions for a request: what was asked for,
// else one for each processor, between 2 and 8.
func Jobs(asked int) int {
	if asked > 0 {
		return min(asked, MaxJobs)
	}
	return min(max(runtime.NumCPU(), 2), 8)
}

// Inputs are what a restore is planned from.
type Inputs struct {
	// Server reaches the server that is restored into.
	Server postgres.Config
	// Source gives the snapshot's bytes, Content says what is in it.
	Source  stream.Source
	Content *repo.Content
	// Job gives what is made on the way its names.
	Job     repo.JobID
	Request job.Restore
}

// planner is what is known while a plan is made.
type planner struct {
	server  postgres.Config
	source  stream.Source
	id      repo.JobID
	request job.Restore
	shaper  *shaper
	nothing []*asked // databases in which no pattern matches
}

// Make reads what is needed of the snapshot (archives, chunk lists, facts of
// large objects), looks at the server and plans. Nothing is changed. A plan that
// refuses is no error: see Plan.Err.
func Make(ctx context.Context, in Inputs) (*Plan, error) {
	content, request := in.Content, in.Request
	if content.Logical == nil {
		return nil, fmt.Errorf("restore snapshot of kind %q: %w", content.Kind, errs.Unsupported)
	}
	p := &planner{server: in.Server, source: in.Source, id: in.Job, request: request}
	var err error
	if p.shaper, err = newShaper(request); err != nil {
		return nil, fmt.Errorf("plan restore: %w", err)
	}
	all, err := p.chooseAll(ctx, content)
	if err != nil {
		return nil, err
	}
	if request.Live {
		if err := p.lookAtLive(ctx, all); err != nil {
			return nil, err
		}
	}
	content = reduced(content, all, len(request.Databases) > 0)
	needs, chosen, err := p.match(ctx, content, all)
	if err != nil {
		return nil, err
	}
	target, err := readTarget(ctx, p.server, inquiry{content: content, needs: needs, request: request, wanted: wantedNames(all)})
	if err != nil {
		return nil, err
	}
	plan := Decide(content, needs, target, p.id, request)
	plan.shaper, plan.asked = p.shaper, chosen
	if len(request.Databases) == 0 {
		plan.unmatched("", missing(append(p.nothing, all...)))
	}
	return plan, nil
}

// match gives, for each database of the reduced content that is restored, what it
// needs and what was asked for.
func (p *planner) match(ctx context.Context, content *repo.Content, all []*asked) (map[*repo.Database]*Needs, map[*repo.Database]*asked, error) {
	needs, chosen := map[*repo.Database]*Needs{}, map[*repo.Database]*asked{}
	for i := range content.Logical.Databases {
		d := &content.Logical.Databases[i]
		at := slices.IndexFunc(all, func(one *asked) bool { return one.source.Name == d.Name })
		if at < 0 || all[at].part == nil { // not asked for, or its backup failed
			continue
		}
		if all[at].needs == nil { // in use
			if err := p.readNeeds(ctx, all[at]); err != nil {
				return nil, nil, err
			}
		}
		needs[d], chosen[d] = all[at].needs, all[at]
	}
	return needs, chosen, nil
}

// chooseAll decides what of each database is restored. One in which no pattern
// matches is not restored, unless it was named.
func (p *planner) chooseAll(ctx context.Context, content *repo.Content) ([]*asked, error) {
	var all []*asked
	request := p.request
	if request.GlobalsOnly {
		return nil, nil
	}
	for i := range content.Logical.Databases {
		d := &content.Logical.Databases[i]
		named := slices.ContainsFunc(request.Databases, func(m job.Mapping) bool { return m.Source == d.Name.Display() })
		if len(request.Databases) > 0 && !named {
			continue
		}
		if d.State == repo.DatabaseFailed {
			if named || !request.Selective() {
				all = append(all, &asked{source: d, named: named})
			}
			continue
		}
		one, err := p.choose(ctx, d, named)
		if err != nil {
			return nil, err
		}
		if one.part.Empty() && !named && request.Selective() {
			p.nothing = append(p.nothing, one)
			continue
		}
		if !request.Live { // a part in use is moved first
			if err := p.readNeeds(ctx, one); err != nil {
				return nil, err
			}
			one.part = &selection.Part{Database: one.part.Database} // its archive is read again
		}
		all = append(all, one)
	}
	return all, nil
}

func wantedNames(all []*asked) []pg.Name {
	var out []pg.Name
	for _, one := range all {
		out = append(out, one.source.Name)
	}
	return out
}

// reduced is the snapshot's content with what is restored of the databases asked
// for, and with others the others as well.
func reduced(content *repo.Content, all []*asked, others bool) *repo.Content {
	c, l := *content, *content.Logical
	l.Databases = nil
	for _, d := range content.Logical.Databases {
		at := slices.IndexFunc(all, func(one *asked) bool { return one.source.Name == d.Name })
		switch {
		case at >= 0 && all[at].part != nil:
			l.Databases = append(l.Databases, *all[at].part.Database)
		case at >= 0 || others:
			l.Databases = append(l.Databases, d)
		}
	}
	c.Logical = &l
	return &c
}
