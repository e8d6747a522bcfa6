package drill_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/drill"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// pg is an installation that has the extensions named.
func pg(version int32, extensions ...string) catalog.ServerInstallation {
	return catalog.ServerInstallation{Folder: "/pg/bin", Version: version, Extensions: extensions, ExtensionsKnown: true}
}

// able is a candidate that can hold every drill of the tests.
func able(name string, ties drill.Ties) drill.Candidate {
	return drill.Candidate{Ties: ties, Online: true,
		Agent: catalog.Agent{Name: name, State: catalog.AgentActive, Build: catalog.Build{Capability: drill.Capability}, Allow: []string{"backup", "drill"}},
		Inventory: catalog.Inventory{Drill: catalog.DrillInventory{FreeDiskBytes: 100 << 30,
			Servers: []catalog.ServerInstallation{pg(150018, "hstore", "postgis")}}}}
}

var (
	home   = drill.Ties{Home: true}
	member = drill.Ties{Member: true}
	role   = drill.Ties{Role: true}
	wish   = drill.Wish{Version: 150004, Extensions: []string{"postgis"}, HeapBytes: 1 << 30}
)

func TestWhoCannotHoldADrillIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *drill.Candidate)
		says   string
	}{
		"a stranger":                   {func(c *drill.Candidate) { c.Ties = drill.Ties{} }, "neither the snapshot's host nor a member"},
		"revoked":                      {func(c *drill.Candidate) { c.Agent.State = catalog.AgentRevoked }, "it is revoked"},
		"replaced":                     {func(c *drill.Candidate) { c.Agent.State = catalog.AgentReplaced }, "it is replaced"},
		"its own file forbids it":      {func(c *drill.Candidate) { c.Agent.Allow = []string{"backup"} }, "does not allow drill"},
		"offline":                      {func(c *drill.Candidate) { c.Online = false }, "offline"},
		"an old program":               {func(c *drill.Candidate) { c.Agent.Build.Capability = 1 }, "too old"},
		"its host cannot":              {func(c *drill.Candidate) { c.Inventory.Drill.Refusal = "no user postgres" }, "no user postgres"},
		"has said nothing of its host": {func(c *drill.Candidate) { c.Inventory = catalog.Inventory{} }, "no server programs of PostgreSQL 15 or later; install"},
		"only older programs": {func(c *drill.Candidate) {
			c.Inventory.Drill.Servers = []catalog.ServerInstallation{pg(140020, "postgis")}
		}, "only 14.20 in /pg/bin"},
		"an extension is missing": {func(c *drill.Candidate) { c.Inventory.Drill.Servers[0] = pg(150018, "hstore") }, "lacks the extensions postgis"},
		"too little disk":         {func(c *drill.Candidate) { c.Inventory.Drill.FreeDiskBytes = 2 << 30 }, "2.0 GiB free, this needs about 2.5 GiB"},
	} {
		bad := able("bad", home)
		c.change(&bad)
		_, err := drill.Place(wish, []drill.Candidate{bad})
		if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "bad: ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		// The same reason stands beside the one that was chosen.
		choice, err := drill.Place(wish, []drill.Candidate{bad, able("good", role)})
		if err != nil || choice.Agent.Name != "good" || !strings.Contains(strings.Join(choice.Lines, "\n"), c.says) {
			t.Errorf("%s: %+v, %v", name, choice, err)
		}
	}
	if _, err := drill.Place(wish, nil); !errors.Is(err, errs.Conflict) {
		t.Errorf("nobody at all: %v", err)
	}
}

func TestTheNearestThatCanIsChosen(t *testing.T) {
	with := func(c drill.Candidate, change func(c *drill.Candidate)) drill.Candidate { change(&c); return c }
	newer := func(c *drill.Candidate) {
		c.Inventory.Drill.Servers = []catalog.ServerInstallation{pg(170004, "postgis"), pg(160004, "postgis"), pg(130004, "postgis")}
	}
	for name, c := range map[string]struct {
		all  []drill.Candidate
		want string
		says string
	}{
		"the own host before all": {[]drill.Candidate{able("c", role), able("b", member), able("a", home)}, "a", "own host"},
		"a member before a role":  {[]drill.Candidate{able("c", role), able("b", member)}, "b", "member of the snapshot's domain"},
		"the own host is full": {[]drill.Candidate{with(able("a", home), func(c *drill.Candidate) { c.Inventory.Drill.FreeDiskBytes = 0 }), able("c", role)},
			"c", "role drill"},
		"the same major before a newer one":         {[]drill.Candidate{with(able("a", role), newer), able("b", role)}, "b", "15.18"},
		"the nearest newer where there is no other": {[]drill.Candidate{with(able("a", role), newer)}, "a", "16.4"},
		"one that is idle":                          {[]drill.Candidate{with(able("a", role), func(c *drill.Candidate) { c.Busy = true }), able("b", role)}, "b", ""},
		"a busy one where there is no other":        {[]drill.Candidate{with(able("a", role), func(c *drill.Candidate) { c.Busy = true })}, "a", ""},
		"the one with most room": {[]drill.Candidate{able("a", role), with(able("b", role), func(c *drill.Candidate) { c.Inventory.Drill.FreeDiskBytes++ })},
			"b", ""},
		"of two installations the one that has it": {[]drill.Candidate{with(able("a", role), func(c *drill.Candidate) {
			c.Inventory.Drill.Servers = []catalog.ServerInstallation{pg(150001), pg(150009, "postgis")}
		})}, "a", "15.9"},
		"what is not known to be missing": {[]drill.Candidate{with(able("a", role), func(c *drill.Candidate) {
			c.Inventory.Drill.Servers = []catalog.ServerInstallation{{Folder: "/x", Version: 150001}}
		})}, "a", "15.1"},
	} {
		choice, err := drill.Place(wish, c.all)
		if err != nil || choice.Agent.Name != c.want || !strings.Contains(choice.Lines[0], c.says) || len(choice.Lines) != len(c.all) {
			t.Errorf("%s: %+v, %v", name, choice, err)
		}
	}
}

func TestAnAgentThatIsNamedIsTheOnlyOne(t *testing.T) {
	named := wish
	named.Agent = "b"
	if c, err := drill.Place(named, []drill.Candidate{able("a", home), able("b", role)}); err != nil || c.Agent.Name != "b" {
		t.Errorf("%+v, %v", c, err)
	}
	off := able("b", role)
	off.Online = false
	if _, err := drill.Place(named, []drill.Candidate{able("a", home), off}); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "b: it is offline") {
		t.Error(err)
	}
	if _, err := drill.Place(named, []drill.Candidate{able("a", home)}); !errors.Is(err, errs.Denied) {
		t.Error(err)
	}
}

func TestTiesAreTheCatalogsWord(t *testing.T) {
	agent := catalog.Agent{ID: repo.NewID(), Name: "a"}
	snapshot, domain := repo.NewID(), seal.DomainID(repo.NewID())
	own := catalog.Instance{ID: snapshot, Agent: agent.ID, Domain: seal.DomainID(repo.NewID())}
	mate := catalog.Instance{ID: repo.NewID(), Agent: agent.ID, Domain: domain}
	foreign := catalog.Instance{ID: snapshot, Agent: repo.NewID(), Domain: domain}
	for name, c := range map[string]struct {
		agent     catalog.Agent
		instances []catalog.Instance
		want      drill.Ties
	}{
		"nothing":                    {agent, nil, drill.Ties{}},
		"the instance":               {agent, []catalog.Instance{own}, drill.Ties{Home: true}},
		"one of the domain":          {agent, []catalog.Instance{mate}, drill.Ties{Member: true}},
		"an instance of another":     {agent, []catalog.Instance{foreign}, drill.Ties{}},
		"the role":                   {catalog.Agent{ID: agent.ID, Drills: true}, nil, drill.Ties{Role: true}},
		"the same system identifier": {agent, []catalog.Instance{{ID: repo.NewID(), Agent: agent.ID, SystemIdentifier: 7}}, drill.Ties{}},
	} {
		if got := drill.TiesOf(c.agent, c.instances, snapshot, domain); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
