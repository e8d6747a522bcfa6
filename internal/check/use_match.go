package check

import (
	"bytes"
	"context"
	"errors"
)

// match goes along names and places, and notes for each pack what is needed of it.
func (u *user) match(ctx context.Context) (err error) {
	copies := newSorter(u.dir, "copies", copySize)
	m := matcher{user: u, copies: copies, best: map[[16]byte]candidate{}}
	if u.lists.needed == nil {
		u.lists.needed = &sorted{size: nameSize}
	}
	if m.needed, err = u.lists.needed.open(); err != nil {
		return err
	}
	defer m.needed.close()
	if err := u.places.each(ctx, m.place); err != nil {
		return err
	}
	if err := m.flush(); err != nil {
		return err
	}
	for m.needed.head != nil { // beyond the last place
		u.use.Chunks, u.use.Missing = u.use.Chunks+1, u.use.Missing+1
		if err := m.needed.next(); err != nil {
			return err
		}
	}
	if err := errors.Join(u.places.remove(), u.lists.remove()); err != nil {
		return err
	}
	u.use.copies, err = copies.finish(ctx)
	return err
}

// matcher gathers the copies of one chunk at a time: of each uploader the best.
// A copy of one instance never stands for that of another, which in a shared
// domain may be rubbish under the same name.
type matcher struct {
	*user
	needed *reader
	copies *sorter
	name   [nameSize]byte
	live   bool
	begun  bool
	best   map[[16]byte]candidate
}

// candidate is a copy of a chunk; a lower rank is better.
type candidate struct {
	place
	at   int32
	rank int
}

// The ranks of copies.
const (
	rankStays = iota
	rankCondemned
	rankBad
)

func (m *matcher) place(b []byte) error {
	if !m.begun || !bytes.Equal(m.name[:], b[:nameSize]) {
		if err := m.moveTo(b[:nameSize]); err != nil {
			return err
		}
	}
	if !m.live {
		return nil
	}
	p := readPlace(b[nameSize:])
	c := candidate{place: p, at: m.use.at[p.pack]}
	of := &m.use.Packs[c.at]
	switch {
	case m.o.Bad != nil && m.o.Bad(of.ID, int64(p.offset)):
		c.rank = rankBad
	case of.Standing == Condemned:
		c.rank = rankCondemned
	}
	old, ok := m.best[of.Uploader]
	if !ok || c.rank < old.rank || c.rank == old.rank && of.Size > m.use.Packs[old.at].Size {
		m.best[of.Uploader] = c
	}
	return nil
}

// moveTo ends the chunk before and finds out whether the next is needed.
func (m *matcher) moveTo(name []byte) error {
	if err := m.flush(); err != nil {
		return err
	}
	m.begun, m.live = true, false
	copy(m.name[:], name)
	for m.needed.head != nil {
		order := bytes.Compare(m.needed.head, name)
		if order > 0 {
			return nil
		}
		m.use.Chunks++
		if order < 0 {
			m.use.Missing++
		} else {
			m.live = true
		}
		if err := m.needed.next(); err != nil {
			return err
		}
	}
	return nil
}

func (m *matcher) flush() error {
	for uploader, c := range m.best {
		delete(m.best, uploader)
		p := &m.use.Packs[c.at]
		p.LiveFrames, p.LiveBytes = p.LiveFrames+1, p.LiveBytes+int64(c.length)
		p.Hurt = p.Hurt || c.rank == rankBad
		if p.Standing != Condemned {
			continue
		}
		m.use.CopyFrames, m.use.CopyBytes = m.use.CopyFrames+1, m.use.CopyBytes+int64(c.length)
		record := c.append(append(make([]byte, 0, copySize), uploader[:]...))
		if err := m.copies.add(append(record, m.name[:]...)); err != nil {
			return err
		}
	}
	return nil
}
