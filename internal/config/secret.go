package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// redacted is all that is ever shown of a secret.
const redacted = "[redacted]"

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// Secret is a reference to a secret: "env:NAME" (environment, or the .env
// file), "file:PATH" or "cred:NAME" (a systemd credential). The secret itself
// is read when it is needed and not kept. The zero value is no secret.
type Secret struct {
	// reference, or with inline set the secret itself.
	reference string
	inline    bool
	// lookup finds names of "env:", nil for the process's environment.
	lookup func(string) (string, bool)
}

// ParseSecret reads a reference. A text that is none is refused, and not
// repeated in the error: it is probably the secret itself.
func ParseSecret(text string) (Secret, error) {
	kind, name, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return Secret{}, nil
	case ok && name != "" && (kind == "env" || kind == "file" || kind == "cred" && !strings.ContainsRune(name, filepath.Separator)):
		return Secret{reference: text}, nil
	}
	return Secret{}, fmt.Errorf("a secret is given by reference: env:NAME, file:PATH or cred:NAME: %w", errs.Invalid)
}

// InlineSecret holds a secret itself, for one that a person gave by hand, such
// as a join token that works once.
func InlineSecret(value string) Secret { return Secret{reference: value, inline: true} }

// IsZero tells whether there is no secret.
func (s Secret) IsZero() bool { return s.reference == "" }

// Reference gives the reference, which is not secret; "" for an inline secret.
func (s Secret) Reference() string {
	if s.inline {
		return ""
	}
	return s.reference
}

// Value reads the secret, without a final line break. Errors name the reference.
func (s Secret) Value() (string, error) {
	if s.inline || s.reference == "" {
		return s.reference, nil
	}
	kind, name, _ := strings.Cut(s.reference, ":")
	switch kind {
	case "env":
		lookup := s.lookup
		if lookup == nil {
			lookup = os.LookupEnv
		}
		if v, ok := lookup(name); ok {
			return v, nil
		}
		return "", fmt.Errorf("secret %s: the variable is not set: %w", s.reference, errs.NotFound)
	case "cred":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("secret %s: systemd gave no credentials (LoadCredential=%s in the unit): %w", s.reference, name, errs.NotFound)
		}
		return readSecret(s.reference, filepath.Join(dir, name), false)
	}
	return readSecret(s.reference, name, true)
}

// readSecret reads a secret's file. One that everybody can read is refused.
func readSecret(reference, path string, check bool) (string, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("secret %s: no such file: %w", reference, errs.NotFound)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("secret %s: may not be read by this user: %w", reference, errs.Denied)
	case err != nil:
		return "", fmt.Errorf("secret %s: %w", reference, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", reference, err)
	}
	if check && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("secret %s: mode %04o lets everybody at it; mend it with: chmod 600 %s: %w", reference, info.Mode().Perm(), path, errs.Denied)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", reference, err)
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("secret %s: more than %d bytes: %w", reference, maxSecret, errs.Invalid)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// UnmarshalText reads a reference.
func (s *Secret) UnmarshalText(b []byte) error {
	v, err := ParseSecret(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// String is "[redacted]", or "" when there is no secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is redacted.
func (s Secret) GoString() string { return s.String() }

// Format is redacted whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) } // fmt gives no way to return it

// MarshalText is redacted. Loggers use it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is redacted.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// OneTime is a secret that works once, such as a join token. Besides a reference
// it may be given itself: it is worth nothing soon.
type OneTime struct{ Secret }

// UnmarshalText reads a reference, or takes the text as the secret itself.
func (o *OneTime) UnmarshalText(b []byte) error {
	s, err := ParseSecret(string(b))
	if err != nil {
		s = InlineSecret(string(b))
	}
	o.Secret = s
	return nil
}
