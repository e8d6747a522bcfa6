package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Witness is what this agent last saw of the repository's history. A store that
// is behind it was rolled back.
type Witness struct {
	Repository repo.RepositoryID
	Epoch      uint64
	LogNumber  uint64
	LogHash    [32]byte
	Seen       time.Time
}

// ahead tells whether w has seen more than o.
func (w Witness) ahead(o Witness) bool {
	return w.Epoch > o.Epoch || w.Epoch == o.Epoch && w.LogNumber > o.LogNumber
}

// Facts are what the agent must still know after a restart.
type Facts struct {
	// Name under which the controller knows the agent.
	Name string
	// Controller is the address that was used last.
	Controller string
	// Token is the id of the join token that the identity came from.
	Token string
	// Epoch is the highest epoch of a controller seen so far.
	Epoch uint64
	// Witness of the repository.
	Witness Witness
	// Contact is when the controller answered last, by the agent's clock.
	Contact time.Time
	// Skew is the controller's clock minus the agent's at that time.
	Skew time.Duration
}

// stateFile is the form of Facts on disk.
type stateFile struct {
	Version    int       `json:"version"`
	Name       string    `json:"name"`
	Controller string    `json:"controller"`
	Token      string    `json:"token_id,omitempty"`
	Epoch      uint64    `json:"epoch"`
	Repository string    `json:"repository,omitempty"`
	WitEpoch   uint64    `json:"witness_epoch,omitempty"`
	LogNumber  uint64    `json:"witness_log_number,omitempty"`
	LogHash    []byte    `json:"witness_log_hash,omitempty"`
	Seen       time.Time `json:"witness_seen,omitzero"`
	Contact    time.Time `json:"contact,omitzero"`
	SkewMS     int64     `json:"clock_skew_ms,omitempty"`
}

// saveEvery bounds how often facts that lose nothing by being a little old
// (witness, contact, skew) are written: a heartbeat brings new ones every few seconds.
const saveEvery = time.Minute

// State is Facts with their file.
type State struct {
	path string

	mu    sync.Mutex
	facts Facts
	// saved is when settle wrote the file last.
	saved time.Time
	dirty bool
}

// OpenState reads the file; one that does not exist is that of an agent that
// has never spoken. A damaged one is refused: without it an old controller
// would be obeyed again.
func OpenState(path string) (*State, error) {
	s := &State{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read state %s: %w: %w", path, err, errs.Corrupt)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("read state %s: version %d: %w", path, f.Version, errs.Unsupported)
	}
	s.facts = Facts{Name: f.Name, Controller: f.Controller, Token: f.Token, Epoch: f.Epoch, Contact: f.Contact, Skew: time.Duration(f.SkewMS) * time.Millisecond}
	if f.Repository != "" {
		id, err := repo.ParseID(f.Repository)
		if err != nil || len(f.LogHash) != 32 {
			return nil, fmt.Errorf("read state %s: witness: %w", path, errs.Corrupt)
		}
		s.facts.Witness = Witness{Repository: id, Epoch: f.WitEpoch, LogNumber: f.LogNumber, LogHash: [32]byte(f.LogHash), Seen: f.Seen}
	}
	return s, nil
}

// Facts gives what is known now.
func (s *State) Facts() Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts
}

// Enrolled notes where and as what the agent enrolled, and by which token, durably.
func (s *State) Enrolled(controller, name, token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.Controller, s.facts.Name, s.facts.Token = controller, name, token
	return s.saveLocked()
}

// admit checks a controller's epoch against the highest seen, and remembers a
// higher one durably before anything of it is obeyed.
func (s *State) admit(epoch uint64, name, controller string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.facts.Epoch {
		return fmt.Errorf("controller of epoch %d: one of epoch %d was seen, and the highest is obeyed: %w", epoch, s.facts.Epoch, errs.Conflict)
	}
	if epoch == s.facts.Epoch && name == s.facts.Name && controller == s.facts.Controller {
		return nil
	}
	before := s.facts
	s.facts.Epoch, s.facts.Name, s.facts.Controller = epoch, name, controller
	if err := s.saveLocked(); err != nil {
		s.facts = before
		return err
	}
	return nil
}

// witness remembers what the controller says of the repository, if it is more
// than is known. It tells whether the controller is behind what was seen.
func (s *State) witness(w Witness) (behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts.Witness.ahead(w) {
		return true
	}
	if !w.ahead(s.facts.Witness) {
		return w.LogHash != s.facts.Witness.LogHash && !s.facts.Witness.Repository.IsZero()
	}
	s.facts.Witness, s.dirty = w, true
	return false
}

// contact notes that the controller answered, and its clock.
func (s *State) contact(now time.Time, skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.Contact, s.facts.Skew, s.dirty = now, skew, true
}

// settle writes what is not written yet, if the last write is long enough ago
// or now is set.
func (s *State) settle(now bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty || !now && time.Since(s.saved) < saveEvery {
		return nil
	}
	s.saved = time.Now()
	return s.saveLocked()
}

// saveLocked writes the file.
func (s *State) saveLocked() error {
	f := stateFile{Version: 1, Name: s.facts.Name, Controller: s.facts.Controller, Token: s.facts.Token, Epoch: s.facts.Epoch,
		Contact: s.facts.Contact, SkewMS: s.facts.Skew.Milliseconds()}
	if w := s.facts.Witness; !w.Repository.IsZero() {
		f.Repository, f.WitEpoch, f.LogNumber, f.LogHash, f.Seen = w.Repository.String(), w.Epoch, w.LogNumber, w.LogHash[:], w.Seen
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := durable.WriteFile(s.path, append(b, '\n')); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	s.dirty = false
	return nil
}
