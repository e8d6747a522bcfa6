package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// MajorsVariable names installations of PostgreSQL beyond those of the host:
// "13=/folder/of/programs,17=/another". "make test-long" sets it to what "make
// majors" installed.
const MajorsVariable = "TUSKVAULT_PG_MAJORS"

// Oldest and Newest are the major versions that are supported.
const (
	Oldest = 13
	Newest = 18
)

// Installation is one installed PostgreSQL.
type Installation struct {
	// Major is its major version, Bin the folder of its server programs, and of
	// its client programs where it has them.
	Major int
	Bin   string
}

// HasClient tells whether a program like pg_dump is there.
func (i Installation) HasClient(program string) bool {
	st, err := os.Stat(filepath.Join(i.Bin, program))
	return err == nil && st.Mode()&0o111 != 0
}

// Installed gives the installations that MajorsVariable names and the host's own,
// one a major version, in order of version; the variable wins.
func Installed() ([]Installation, error) {
	bins, err := parseMajors(os.Getenv(MajorsVariable))
	if err != nil {
		return nil, err
	}
	for _, dir := range installed() {
		major, _ := majorOf(dir) // installed has looked already
		if bins[major] == "" {
			bins[major] = dir
		}
	}
	var all []Installation
	for major, bin := range bins {
		if !hasServer(bin) {
			return nil, fmt.Errorf("PostgreSQL %d in %s: no initdb and postgres in it: %w", major, bin, errs.NotFound)
		}
		all = append(all, Installation{major, bin})
	}
	slices.SortFunc(all, func(a, b Installation) int { return a.Major - b.Major })
	return all, nil
}

// parseMajors reads the variable. An empty text names none.
func parseMajors(text string) (map[int]string, error) {
	bins := map[int]string{}
	for item := range strings.SplitSeq(text, ",") {
		if item == "" {
			continue
		}
		name, bin, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(name)
		if err != nil || bin == "" {
			return nil, fmt.Errorf("%s: %q is not of the form MAJOR=FOLDER: %w", MajorsVariable, item, errs.Invalid)
		}
		if bins[n] != "" {
			return nil, fmt.Errorf("%s: version %d is named twice: %w", MajorsVariable, n, errs.Invalid)
		}
		bins[n] = bin
	}
	return bins, nil
}

// Majors gives every supported major version, oldest first. One that is not
// installed fails the test where REQUIRE_SERVICES is set, and is left out, with
// a word about it, elsewhere; the test is skipped when there are none at all.
func Majors(t testing.TB) []Installation {
	t.Helper()
	all, err := Installed()
	if err != nil {
		t.Fatal(err)
	}
	have := slices.DeleteFunc(all, func(i Installation) bool { return i.Major < Oldest || i.Major > Newest })
	var missing []string
	for m := Oldest; m <= Newest; m++ {
		if !slices.ContainsFunc(have, func(i Installation) bool { return i.Major == m }) {
			missing = append(missing, strconv.Itoa(m))
		}
	}
	if len(missing) > 0 {
		err := fmt.Errorf("PostgreSQL %s: not installed; run: make majors", strings.Join(missing, ", "))
		if len(have) == 0 {
			err = errors.Join(err, errs.NotFound)
			fatalOrSkip(t, err)
		}
		if os.Getenv("REQUIRE_SERVICES") == "1" {
			t.Fatal(err)
		}
		t.Log(err)
	}
	return have
}

// Client gives the folder of the client programs to use with the server: its own,
// where it has them, else those of the next newer version that is installed.
func (s *Server) Client() string {
	if (Installation{Bin: s.Bin}).HasClient("pg_dump") {
		return s.Bin
	}
	all, err := Installed()
	if err != nil {
		return s.Bin // whoever runs a program of it says that it is not there
	}
	version, err := os.ReadFile(filepath.Join(s.Data, "PG_VERSION"))
	if err != nil {
		return s.Bin
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(version)))
	for _, i := range all {
		if i.HasClient("pg_dump") && i.Major >= major {
			return i.Bin
		}
	}
	return s.Bin
}
