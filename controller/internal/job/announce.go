package job

import (
	"strings"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
)

// announceLocked tells of a job that a transaction has brought into another
// state. It is called where memory follows the catalog, under the lock, so that
// the states of a job are told in the order in which it had them. One that was
// overtaken by a later one before it came here is not told. What a former process
// left is not news.
func (m *Manager) announceLocked(was *entry, j catalog.Job, order int) {
	switch {
	case order == 0, was == nil && j.State.Terminal(), was != nil && was.state == j.State && was.current == j.Current:
		return
	}
	kind, ok := event.OfState(j.State)
	if !ok {
		return
	}
	e := eventOf(j)
	e.Kind = kind
	m.events.Publish(e)
}

// announceSnapshot tells that a job's snapshot exists.
func (m *Manager) announceSnapshot(j catalog.Job) {
	e := eventOf(j)
	e.Kind, e.Message = event.SnapshotCommitted, ""
	if j.Incomplete {
		e.Message = "it lacks something that was asked for"
	}
	m.events.Publish(e)
}

// eventOf is what every event of a job has.
func eventOf(j catalog.Job) event.Event {
	agent, _, _ := strings.Cut(j.InstanceName, "/")
	return event.Event{Agent: j.Agent, AgentName: agent, Instance: j.InstanceName, Job: j.ID, JobKind: j.Kind, DryRun: j.DryRun(),
		Snapshot: j.SnapshotID, Message: j.Message}
}
