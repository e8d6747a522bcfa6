package repo

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	// FormatNumber is the number of the format that this program writes. 0 means
	// that the format may still change; it becomes 1 when it is frozen.
	FormatNumber = 0

	// maxDescriptionBytes is far above what a description with a name takes.
	maxDescriptionBytes = 64 << 10
	// maxNameLength keeps a repository's name fit for a line of text.
	maxNameLength = 64
)

// Description is repository.json: what may be known of a repository without a
// key. It is written once and never changed, and holds no secret.
type Description struct {
	// Format is the number of the format.
	Format int
	// ID of the repository.
	ID RepositoryID
	// Name for people.
	Name string
	// Created by the clock of whoever made it.
	Created time.Time
	// Cut are the cutting parameters that new domains get.
	Cut chunk.Params
	// Hash is the SHA-256 of repository.json.
	Hash [32]byte
}

// descriptionJSON is the form of a Description in repository.json.
type descriptionJSON struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Cut     cutJSON   `json:"cut"`
}

// cutJSON is the form of cutting parameters in every JSON object of the format.
type cutJSON struct {
	Target int `json:"target"`
	Min    int `json:"min"`
	Max    int `json:"max"`
}

var (
	namePattern       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$`)
	laterFormatObject = regexp.MustCompile(`^repository\.([0-9]+)\.json$`)
)

func (d *Description) encode() ([]byte, error) {
	text, err := json.MarshalIndent(descriptionJSON{
		Format: d.Format, ID: d.ID.String(), Name: d.Name, Created: d.Created.UTC(), Cut: cutJSON(d.Cut),
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", DescriptionObject, err)
	}
	return append(text, '\n'), nil
}

// Describe reads repository.json. It needs no key and writes nothing. A store
// without one is errs.NotFound; a later format errs.Unsupported, whatever else
// that format says. Any doubt ends in an error: nothing is written to a store
// whose format is not known for certain.
func Describe(ctx context.Context, store blob.Store) (*Description, error) {
	text, err := blob.ReadAll(ctx, store, DescriptionObject, maxDescriptionBytes)
	if errors.Is(err, errs.NotFound) {
		return nil, fmt.Errorf("%s holds no repository: %w", store.Features().Location, errs.NotFound)
	}
	if err != nil {
		return nil, err
	}
	d, err := decodeDescription(text)
	if err != nil {
		return nil, err
	}
	return d, refuseLaterFormat(ctx, store)
}

// decodeDescription looks at the format number first and leniently: a later
// format may have fields that this one does not know.
func decodeDescription(text []byte) (*Description, error) {
	var format struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(text, &format); err != nil || format.Format == nil {
		return nil, fmt.Errorf("%s: has no format number: %w", DescriptionObject, errs.Corrupt)
	}
	if *format.Format > FormatNumber {
		return nil, fmt.Errorf("%s: format %d is newer than %d, the newest this program knows: %w",
			DescriptionObject, *format.Format, FormatNumber, errs.Unsupported)
	}
	var j descriptionJSON
	if err := strictJSON(text, &j); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", DescriptionObject, err, errs.Corrupt)
	}
	id, err := ParseID(j.ID)
	if err != nil || id.IsZero() || j.Format != FormatNumber {
		return nil, fmt.Errorf("%s: id %q, format %d: %w", DescriptionObject, j.ID, j.Format, errs.Corrupt)
	}
	d := &Description{Format: j.Format, ID: id, Name: j.Name, Created: j.Created, Cut: chunk.Params(j.Cut), Hash: sha256.Sum256(text)}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", DescriptionObject, err, errs.Corrupt)
	}
	return d, nil
}

// check tells why a description cannot be; the caller gives the error its kind.
func (d *Description) check() error {
	if len(d.Name) > maxNameLength || !namePattern.MatchString(d.Name) {
		return fmt.Errorf("name %q: must be 1 to %d of letters, digits, space and ._-", d.Name, maxNameLength)
	}
	if err := d.Cut.Validate(); err != nil {
		return fmt.Errorf("cut: %s", err.Error()) // without its kind: the caller's holds
	}
	return nil
}

// refuseLaterFormat looks for repository.<n>.json, which a later format writes
// beside repository.json.
func refuseLaterFormat(ctx context.Context, store blob.Store) error {
	return store.List(ctx, "repository.", "", func(info blob.Info) error {
		m := laterFormatObject.FindStringSubmatch(info.Key)
		if m == nil {
			return nil
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n <= FormatNumber {
			return nil
		}
		return fmt.Errorf("%s: a later format than %d, the newest this program knows: %w", info.Key, FormatNumber, errs.Unsupported)
	})
}
