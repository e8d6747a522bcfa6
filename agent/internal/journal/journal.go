// Package journal remembers on disk what this agent was doing: one file for each
// attempt, written before the attempt begins, completed with its result when it
// ends, and removed when the controller has acknowledged the result. What is
// found without a result after a restart was cut off by it.
//
// Keys never get here: an entry has an attempt's name and its result, nothing
// of its grant.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// version of the entries' form.
const version = 1

// suffix of entries; badSuffix of those that could not be read.
const (
	suffix    = ".json"
	badSuffix = ".bad"
)

// Entry is what is known of one attempt.
type Entry struct {
	// Ref names the attempt.
	Ref job.Ref `json:"-"`
	// Version of the entry's form.
	Version int `json:"version"`
	// Attempt is Ref as text: "<job id>-<epoch>.<counter>".
	Attempt string `json:"attempt"`
	// Kind of work.
	Kind job.Kind `json:"kind"`
	// Instance it concerns, by its name within the agent.
	Instance string `json:"instance"`
	// Started is when the attempt was taken on.
	Started time.Time `json:"started"`
	// Result is nil while the attempt runs.
	Result *job.Result `json:"result,omitempty"`
}

// Journal is a folder of entries. Its methods may be called concurrently.
type Journal struct {
	dir string

	mu sync.Mutex // one write at a time: durable.WriteFile asks for that
}

// Open makes the folder if it is missing.
func Open(dir string) (*Journal, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{dir: dir}, nil
}

// Load gives all entries, oldest attempt first. An entry that cannot be read is
// set aside under another name and reported in bad: one broken file must not
// keep an agent from starting, and its attempt ends by its lease.
func (j *Journal) Load() (entries []Entry, bad []error, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) {
			continue // set aside, or the rest of a write that a crash cut off
		}
		e, err := j.read(f.Name())
		if err != nil {
			path := filepath.Join(j.dir, f.Name())
			bad = append(bad, errors.Join(err, os.Rename(path, path+badSuffix)))
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		switch {
		case a.Ref.Fence.Less(b.Ref.Fence):
			return -1
		case b.Ref.Fence.Less(a.Ref.Fence):
			return 1
		}
		return 0
	})
	return entries, bad, nil
}

// read reads one entry.
func (j *Journal) read(name string) (Entry, error) {
	b, err := os.ReadFile(filepath.Join(j.dir, name))
	if err != nil {
		return Entry{}, fmt.Errorf("read journal: %w", err)
	}
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return Entry{}, fmt.Errorf("read journal entry %s: %w: %w", name, err, errs.Corrupt)
	}
	if e.Version != version {
		return Entry{}, fmt.Errorf("read journal entry %s: version %d: %w", name, e.Version, errs.Unsupported)
	}
	if e.Ref, err = job.ParseRef(e.Attempt); err != nil || fileName(e.Ref) != name {
		return Entry{}, fmt.Errorf("read journal entry %s: is not that of its attempt: %w", name, errs.Corrupt)
	}
	return e, nil
}

// Begin records that an attempt is taken on. When it has returned nil, a
// restart will know of the attempt.
func (j *Journal) Begin(e Entry) error { return j.write(e) }

// End records an attempt's result, which is kept until Remove.
func (j *Journal) End(e Entry, r job.Result) error {
	e.Result = &r
	return j.write(e)
}

// write replaces an entry.
func (j *Journal) write(e Entry) error {
	e.Version, e.Attempt = version, e.Ref.Text()
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal attempt %s: %w", e.Ref, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := durable.WriteFile(filepath.Join(j.dir, fileName(e.Ref)), b); err != nil {
		return fmt.Errorf("journal attempt %s: %w", e.Ref, err)
	}
	return nil
}

// Remove forgets an attempt. An unknown one is no error.
func (j *Journal) Remove(ref job.Ref) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := durable.Remove(filepath.Join(j.dir, fileName(ref))); err != nil {
		return fmt.Errorf("forget attempt %s: %w", ref, err)
	}
	return nil
}

// fileName of an attempt's entry.
func fileName(ref job.Ref) string { return ref.Text() + suffix }
