package api

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Bounds of what a caller may send. Each is far above honest use and keeps one
// record of the catalog below a few hundred kilobytes.
const (
	maxLabels     = 64   // labels of one agent
	maxLabelValue = 63   // bytes of a label's value, as in the tools SREs know
	maxReference  = 256  // bytes of a name or id that a caller looks up
	maxGlobs      = 1000 // database globs of one request
	maxGlobBytes  = 256  // a database name has at most 63 bytes, its display form four times that
	maxReason     = 500  // bytes of a reason for the audit trail
	maxWorkers    = 64   // parallel streams that one job may ask for
	maxTTL        = 7 * 24 * time.Hour
	defaultTTL    = time.Hour
	minTTL        = time.Second
	labelKeyRule  = "want [a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?"
)

// field gives an Invalid error that names the request's field.
func field(name, format string, args ...any) error {
	return fmt.Errorf("field %s: %s: %w", name, fmt.Sprintf(format, args...), errs.Invalid)
}

func validLabelKey(key string) bool {
	return len(key) <= 63 && edgesAndRest(key, "._/-")
}

// edgesAndRest tells whether s is letters and digits, with the bytes of extra
// allowed anywhere but at the ends.
func edgesAndRest(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || i == len(s)-1 || strings.IndexByte(extra, c) < 0) {
			return false
		}
	}
	return s != ""
}

func checkLabelValue(key, value string) error {
	switch {
	case len(value) > maxLabelValue:
		return fmt.Errorf("label %s: value has %d bytes, at most %d are taken: %w", key, len(value), maxLabelValue, errs.Invalid)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f || strings.ContainsRune(",()=!", r) }):
		return fmt.Errorf("label %s: value %q holds a control character or one of ,()=!: %w", key, value, errs.Invalid)
	}
	return nil
}

// checkLabels checks a request's labels.
func checkLabels(name string, labels map[string]string) error {
	if len(labels) > maxLabels {
		return field(name, "%d labels, at most %d are taken", len(labels), maxLabels)
	}
	for k, v := range labels {
		if !validLabelKey(k) {
			return field(name, "label key %q: %s", k, labelKeyRule)
		}
		if err := checkLabelValue(k, v); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
	}
	return nil
}

// checkName checks a name that will be stored, such as an agent's or a cluster's.
func checkName(name, value string) error {
	if !catalog.ValidName(value) {
		return field(name, "%q: %s", clip(value, 63), catalog.NameRule)
	}
	return nil
}

// checkReference checks a name or id that will only be looked up.
func checkReference(name, value string) error {
	switch {
	case value == "":
		return field(name, "is empty")
	case len(value) > maxReference:
		return field(name, "has %d bytes, at most %d are taken", len(value), maxReference)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return field(name, "%q holds a control character", value)
	}
	return nil
}

func checkReason(value string) error {
	if len(value) > maxReason || !utf8.ValidString(value) {
		return field("reason", "want at most %d bytes of text", maxReason)
	}
	return nil
}

// parseRequestID reads the client-chosen id of a creating request.
func parseRequestID(value string) (repo.ID, error) {
	id, err := repo.ParseID(value)
	if err != nil {
		return id, field("request_id", "want 32 hex digits")
	}
	if id.IsZero() {
		return id, field("request_id", "is all zeros")
	}
	return id, nil
}

// checkGlobs checks database globs. They are matched by the agent with
// path.Match against display names, so a bad pattern is refused here, where a
// person sees it, and not at night.
func checkGlobs(name string, globs []string) error {
	if len(globs) > maxGlobs {
		return field(name, "%d entries, at most %d are taken", len(globs), maxGlobs)
	}
	for _, g := range globs {
		switch _, err := path.Match(g, ""); {
		case g == "":
			return field(name, "holds an empty entry")
		case len(g) > maxGlobBytes:
			return field(name, "an entry has %d bytes, at most %d are taken", len(g), maxGlobBytes)
		case err != nil:
			return field(name, "%q is not a pattern", g)
		}
	}
	return nil
}

func checkWorkers(name string, n int32) error {
	if n < 0 || n > maxWorkers {
		return field(name, "%d: want 0 (let the agent choose) to %d", n, maxWorkers)
	}
	return nil
}

// parseTTL reads how long a token works.
func parseTTL(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return defaultTTL, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, field("ttl", "is no duration")
	}
	ttl := d.AsDuration()
	if ttl < minTTL || ttl > maxTTL {
		return 0, field("ttl", "%s: want %s to %s", ttl, minTTL, maxTTL)
	}
	return ttl, nil
}

// parseLevel reads a log level.
func parseLevel(value string) (string, error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, value) {
		return "", field("level", "%q: want debug, info, warn or error", clip(value, 20))
	}
	return value, nil
}

// clip shortens text for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
