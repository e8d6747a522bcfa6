package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/api"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestASelectorMatchesAsPeopleExpect(t *testing.T) {
	labels := map[string]string{"env": "prod", "tier": "db", "region/zone": "eu.1"}
	for _, c := range []struct {
		selector string
		want     bool
	}{
		{"", true},
		{"  ", true},
		{"env=prod", true},
		{"env==prod", true},
		{"env = prod , tier = db", true},
		{"env=prod,tier=cache", false},
		{"env!=prod", false},
		{"env!=dev", true},
		{"missing!=x", true},
		{"missing=x", false},
		{"missing=", false},
		{"env", true},
		{"missing", false},
		{"!env", false},
		{"!missing", true},
		{"env in (dev,prod)", true},
		{"env in ( dev , prod ),tier", true},
		{"env in (dev)", false},
		{"env notin (dev,test)", true},
		{"env notin (dev,prod)", false},
		{"missing notin (a)", true},
		{"missing in (a)", false},
		{"region/zone=eu.1", true},
	} {
		s, err := api.ParseSelector(c.selector)
		if err != nil {
			t.Errorf("%q: %v", c.selector, err)
			continue
		}
		if got := s.Matches(labels); got != c.want {
			t.Errorf("%q matches %v = %v, want %v", c.selector, labels, got, c.want)
		}
	}
}

func TestABadSelectorIsRefusedAndNeverSelectsEverything(t *testing.T) {
	for _, selector := range []string{
		",", "env=prod,", ",env", "=prod", "env in", "env in ()x", "env in (a", "env in a)", "env in ((a))", "env of (a)", "in (a)",
		"ENV=prod", "env=a=b", "env=(a)", "-env", "env-", "!", "!=x", "env=\x00", "env=\xff", "env=" + strings.Repeat("x", 64),
		strings.Repeat("a", 64), strings.Repeat("a,", 600), strings.Repeat("a,", 40) + "a",
	} {
		s, err := api.ParseSelector(selector)
		if !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: got %v, want Invalid", selector, err)
		}
		if err == nil && s.Empty() {
			t.Errorf("%q selects everything", selector)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"env=prod,tier!=cache", "a in (b,c),!d", "((", "a notin ()"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := api.ParseSelector(text)
		if err != nil {
			if !errors.Is(err, errs.Invalid) {
				t.Fatalf("%q: %v is not Invalid", text, err)
			}
			return
		}
		s.Matches(map[string]string{"a": "b"})
		if s.Empty() && strings.TrimSpace(text) != "" {
			t.Fatalf("%q selects everything", text)
		}
	})
}
