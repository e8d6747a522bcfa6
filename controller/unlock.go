package controller

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
)

// unlocker reads the secret that a reference names: the text of a key file, a
// recovery sheet or an age identity, or anything else as a passphrase.
func unlocker(s config.Secret) (seal.Unlocker, error) {
	if s.IsZero() {
		return nil, fmt.Errorf("unlock the repository: no secret is named: %w", errs.Invalid)
	}
	text, err := s.Value()
	if err != nil {
		return nil, fmt.Errorf("unlock the repository: %w", err)
	}
	u, err := unlock.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("unlock the repository: %w", err)
	}
	return u, nil
}
