package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// note says how far reading frames is, in a file of at most maxNote bytes. Packs
// are read in order of domain and id, so one position tells what was done; packs
// in which something was bad are named and read again by the check that goes on,
// since what is wrong is found in the store and not in a note.
//
// One durable step, durable.WriteFile. A crash leaves the note before: what was
// read since then is read again.
type note struct {
	path  string
	saved time.Time
	text  noteJSON
	// again are packs before the position that are read nevertheless.
	again map[packRef]bool
}

type packRef struct {
	domain seal.DomainID
	pack   pack.ID
}

// noteJSON is the file.
type noteJSON struct {
	Version    int       `json:"version"`
	Repository string    `json:"repository"`
	ReadData   bool      `json:"read_data"`
	Sample     int       `json:"sample"`
	Seed       uint64    `json:"seed,string"`
	Started    time.Time `json:"started"`
	// Domain and Pack are the last ones done; empty before the first.
	Domain string `json:"domain"`
	Pack   string `json:"pack"`
	// Packs, Frames and Bytes were read.
	Packs  int64 `json:"packs"`
	Frames int64 `json:"frames"`
	Bytes  int64 `json:"bytes"`
	// Bad are packs in which something was bad: domain and id.
	Bad [][2]string `json:"bad"`
}

// maxNoted bounds the bad packs in a note: with more, reading begins anew.
const maxNoted = 10_000

// maxNote is above what maxNoted packs take.
const maxNote = 4 << 20

// NoteFile is the name of the file in Options.Dir that tells how far a check is.
const NoteFile = "check.json"

// resume finds out how far a check like this one was, if that is asked for.
func (c *checker) resume(context.Context) error {
	n := &note{path: filepath.Join(c.o.Dir, NoteFile), again: map[packRef]bool{}}
	c.note = n
	old, err := readNote(n.path)
	if err != nil {
		return err
	}
	seed := c.o.Seed
	if old != nil && c.o.Resume && old.Repository == c.id.String() && old.ReadData == c.o.ReadData && old.Sample == c.o.Sample &&
		(seed == 0 || seed == old.Seed) && n.takeUp(old) {
		c.report.Resumed = old.Pack != ""
	} else {
		if seed == 0 {
			seed = randomSeed()
		}
		n.text = noteJSON{Version: 1, Repository: c.id.String(), ReadData: c.o.ReadData, Sample: c.o.Sample, Seed: seed, Started: now()}
	}
	r := c.report
	r.Seed, r.Started = n.text.Seed, n.text.Started
	r.PacksRead, r.FramesRead, r.BytesRead = n.text.Packs, n.text.Frames, n.text.Bytes
	c.tell(func(p *Progress) { p.PacksRead, p.BytesRead = r.PacksRead, r.BytesRead })
	n.saved = time.Now() // nothing to note yet
	return nil
}

// readNote reads the file; nil when there is none, or none that makes sense.
func readNote(path string) (*noteJSON, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > maxNote {
		return nil, nil //nolint:nilnil // no note is the usual answer and no error
	}
	if err != nil {
		return nil, fmt.Errorf("find how far the check was: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("find how far the check was: %w", err)
	}
	n := new(noteJSON)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(n) != nil || n.Version != 1 || len(n.Bad) > maxNoted {
		return nil, nil //nolint:nilnil // a note that cannot be read is worth as much as none
	}
	return n, nil
}

// takeUp goes on where a note ends; false when it makes no sense.
func (n *note) takeUp(old *noteJSON) bool {
	for _, b := range old.Bad {
		d, err := seal.ParseDomainID(b[0])
		if err != nil {
			return false
		}
		p, err := pack.ParseID(b[1])
		if err != nil {
			return false
		}
		n.again[packRef{d, p}] = true
	}
	n.text = *old
	return true
}

// done tells whether a pack's frames were read before, and need not be again;
// counted tells that they are in the counts already.
func (n *note) done(d seal.DomainID, p pack.ID) (done, counted bool) {
	at := hex.EncodeToString(d[:]) + p.String()
	if n.text.Pack == "" || at > n.text.Domain+n.text.Pack {
		return false, false
	}
	return !n.again[packRef{d, p}], true
}

// passed notes that a pack was read.
func (n *note) passed(d seal.DomainID, p pack.ID, bad bool) {
	n.text.Domain, n.text.Pack = hex.EncodeToString(d[:]), p.String()
	if bad {
		n.text.Bad = append(n.text.Bad, [2]string{n.text.Domain, n.text.Pack})
	}
}

// saveSometimes saves the note when the last time is a while ago.
func (n *note) saveSometimes(r *Report) error {
	if time.Since(n.saved) < saveEvery {
		return nil
	}
	return n.saveNow(r)
}

// saveNow saves the note, if there is one yet.
func (n *note) saveNow(r *Report) error {
	if n == nil || n.text.Version == 0 {
		return nil
	}
	n.text.Packs, n.text.Frames, n.text.Bytes = r.PacksRead, r.FramesRead, r.BytesRead
	return n.save()
}

func (n *note) save() error {
	if len(n.text.Bad) > maxNoted {
		return nil // the note before stays: reading goes on from there
	}
	b, err := json.Marshal(&n.text)
	if err != nil {
		return fmt.Errorf("note how far the check is: %w", err)
	}
	n.saved = time.Now()
	if err := durable.WriteFile(n.path, b); err != nil {
		return fmt.Errorf("note how far the check is: %w", diskError(err))
	}
	return nil
}

// remove ends the note: there is nothing to go on with.
func (n *note) remove() error { return durable.Remove(n.path) }

// sampled tells whether the frames of a pack are in a sample: the same seed
// gives the same packs, whatever else is stored.
func sampled(seed uint64, sample int, id pack.ID) bool {
	switch {
	case sample <= 0:
		return false
	case sample >= Whole:
		return true
	}
	// Ids are hashes: a mix of one word of the id with the seed is as good as random.
	x := binary.BigEndian.Uint64(id[8:]) ^ seed
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x%Whole < uint64(sample)
}
