package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Bounds of a selector: far above what a person writes, far below what could
// cost anything to match against a whole fleet.
const (
	maxSelectorBytes = 1024
	maxRequirements  = 32
)

// operator says how a requirement compares.
type operator byte

const (
	opIn        operator = iota // the label exists and has one of the values
	opNotIn                     // the label is missing or has none of the values
	opExists                    // the label exists
	opNotExists                 // the label is missing
)

// requirement is one comma-separated part of a selector.
type requirement struct {
	key    string
	op     operator
	values []string
}

// Selector picks by labels: all of its requirements must hold.
type Selector struct{ requirements []requirement }

// ParseSelector reads "env=prod,tier!=cache,zone in (a,b),role notin (x),key,!key".
// The empty text selects everything. As in the tools SREs know, != and notin
// also match where the label is missing. Errors are Invalid.
func ParseSelector(text string) (Selector, error) {
	if len(text) > maxSelectorBytes {
		return Selector{}, fmt.Errorf("selector: %d bytes, at most %d are taken: %w", len(text), maxSelectorBytes, errs.Invalid)
	}
	var s Selector
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	parts, err := splitRequirements(text)
	if err != nil {
		return Selector{}, err
	}
	for _, part := range parts {
		r, err := parseRequirement(part)
		if err != nil {
			return Selector{}, fmt.Errorf("selector %q: %w", text, err)
		}
		s.requirements = append(s.requirements, r)
	}
	if len(s.requirements) > maxRequirements {
		return Selector{}, fmt.Errorf("selector: %d requirements, at most %d are taken: %w", len(s.requirements), maxRequirements, errs.Invalid)
	}
	return s, nil
}

// Matches tells whether all requirements hold for the labels.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s.requirements {
		value, ok := labels[r.key]
		var holds bool
		switch r.op {
		case opIn:
			holds = ok && slices.Contains(r.values, value)
		case opNotIn:
			holds = !ok || !slices.Contains(r.values, value)
		case opExists:
			holds = ok
		case opNotExists:
			holds = !ok
		}
		if !holds {
			return false
		}
	}
	return true
}

// Empty tells whether the selector selects everything.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// splitRequirements cuts at the commas outside parentheses.
func splitRequirements(text string) ([]string, error) {
	var parts []string
	depth, start := 0, 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
		if depth < 0 || depth > 1 {
			return nil, fmt.Errorf("selector %q: parentheses do not match: %w", text, errs.Invalid)
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("selector %q: parentheses do not match: %w", text, errs.Invalid)
	}
	return append(parts, text[start:]), nil
}

func parseRequirement(part string) (requirement, error) {
	part = strings.TrimSpace(part)
	if part == "" {
		return requirement{}, fmt.Errorf("empty requirement: %w", errs.Invalid)
	}
	if open := strings.IndexByte(part, '('); open >= 0 {
		return parseSet(part, open)
	}
	if key, value, ok := strings.Cut(part, "!="); ok {
		return newRequirement(key, opNotIn, value)
	}
	if key, value, ok := strings.Cut(part, "="); ok {
		return newRequirement(key, opIn, strings.TrimPrefix(value, "="))
	}
	if key, ok := strings.CutPrefix(part, "!"); ok {
		return newRequirement(key, opNotExists)
	}
	return newRequirement(part, opExists)
}

// parseSet reads "key in (a,b)" and "key notin (a,b)".
func parseSet(part string, open int) (requirement, error) {
	if !strings.HasSuffix(part, ")") {
		return requirement{}, fmt.Errorf("requirement %q: text after the parenthesis: %w", part, errs.Invalid)
	}
	head := strings.TrimSpace(part[:open])
	values := strings.Split(part[open+1:len(part)-1], ",")
	cut := strings.LastIndexAny(head, " \t")
	if cut < 0 {
		return requirement{}, fmt.Errorf("requirement %q: want KEY in (A,B) or KEY notin (A,B): %w", part, errs.Invalid)
	}
	switch word := head[cut+1:]; word {
	case "in":
		return newRequirement(head[:cut], opIn, values...)
	case "notin":
		return newRequirement(head[:cut], opNotIn, values...)
	default:
		return requirement{}, fmt.Errorf("requirement %q: unknown word %q, want in or notin: %w", part, word, errs.Invalid)
	}
}

func newRequirement(key string, op operator, values ...string) (requirement, error) {
	key = strings.TrimSpace(key)
	if !validLabelKey(key) {
		return requirement{}, fmt.Errorf("label key %q: %s: %w", key, labelKeyRule, errs.Invalid)
	}
	for i, v := range values {
		v = strings.TrimSpace(v)
		if err := checkLabelValue(key, v); err != nil {
			return requirement{}, err
		}
		values[i] = v
	}
	return requirement{key: key, op: op, values: values}, nil
}
