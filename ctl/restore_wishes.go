package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/exit"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// wishes are the flags of a restore that are not fields of the request as they
// stand.
type wishes struct {
	databases, roles, tablespaces, sections []string
	schemaOnly, dataOnly                    bool
}

// apply reads the flags into the request.
func (w *wishes) apply(req *tuskvaultv1.StartRestoreRequest) error {
	var err error
	if req.Databases, err = mappings(w.databases); err != nil {
		return err
	}
	if req.RoleMap, err = nameMappings("--role-map", w.roles, false); err != nil {
		return err
	}
	if req.TablespaceMap, err = nameMappings("--tablespace-map", w.tablespaces, true); err != nil {
		return err
	}
	req.Globals = req.GetGlobals() || req.GetGlobalsOnly()
	req.Sections, err = w.chosen()
	return err
}

// chosen gives the sections asked for in one of three ways.
func (w *wishes) chosen() ([]tuskvaultv1.RestoreSection, error) {
	const pre, data, post = tuskvaultv1.RestoreSection_RESTORE_SECTION_PRE_DATA, tuskvaultv1.RestoreSection_RESTORE_SECTION_DATA, tuskvaultv1.RestoreSection_RESTORE_SECTION_POST_DATA
	given := 0
	for _, on := range []bool{w.schemaOnly, w.dataOnly, len(w.sections) > 0} {
		if on {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, exit.WrongUsage(errors.New("--section, --schema-only and --data-only exclude each other"))
	case w.schemaOnly:
		return []tuskvaultv1.RestoreSection{pre, post}, nil
	case w.dataOnly:
		return []tuskvaultv1.RestoreSection{data}, nil
	}
	var out []tuskvaultv1.RestoreSection
	for _, s := range w.sections {
		v, ok := map[string]tuskvaultv1.RestoreSection{"pre-data": pre, "data": data, "post-data": post}[s]
		if !ok {
			return nil, exit.WrongUsage(fmt.Errorf("--section %q: want pre-data, data or post-data", s))
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out, nil
}

// destroys says what of the target a restore would take away, or "".
func destroys(req *tuskvaultv1.StartRestoreRequest) string {
	switch {
	case req.GetReplace() && req.GetLive():
		return "replace the rows of tables in use"
	case req.GetReplace():
		return "replace databases"
	case req.GetOverwritePasswords():
		return "overwrite passwords of roles"
	}
	return ""
}

// nameMappings reads OLD=NEW. empty tells whether NEW may be.
func nameMappings(flag string, args []string, empty bool) ([]*tuskvaultv1.NameMapping, error) {
	var out []*tuskvaultv1.NameMapping
	for _, s := range args {
		source, target, ok := cutMapping(s)
		if !ok || source == "" || target == "" && !empty {
			return nil, exit.WrongUsage(fmt.Errorf("%s %q: not of the form OLD=NEW", flag, s))
		}
		out = append(out, &tuskvaultv1.NameMapping{Source: source, Target: target})
	}
	return out, nil
}

// cutMapping cuts at "=". A name with "=" in it is written with "==".
func cutMapping(s string) (source, target string, ok bool) {
	const mark = "\x00"
	source, target, ok = strings.Cut(strings.ReplaceAll(s, "==", mark), "=")
	return strings.ReplaceAll(source, mark, "="), strings.ReplaceAll(target, mark, "="), ok
}
