// Package access owns the file with which an operator reaches controllers: a
// list of named contexts, each an address, the controller's root certificate
// and the operator's own certificate and key. The controller writes the first
// one at init, tuskctl reads and changes it. The file is a secret: it is
// written 0600, and one that others may read is refused.
package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// maxFile bounds what is read: a context is some 3 KiB, so this is hundreds of them.
const maxFile = 1 << 20

// File is the list of contexts.
type File struct {
	// Current is the name of the context used when none is named.
	Current string `yaml:"current"`
	// Contexts in the order in which they were added.
	Contexts []Context `yaml:"contexts"`
}

// Context is one way to reach one controller as one operator.
type Context struct {
	// Name of the context, unique in its file.
	Name string `yaml:"name"`
	// Address of the controller, HOST:PORT.
	Address string `yaml:"address"`
	// Root is the controller's root certificate, PEM.
	Root PEM `yaml:"root"`
	// Certificate is the operator's certificate chain, PEM.
	Certificate PEM `yaml:"certificate"`
	// Key is the operator's private key, PEM.
	Key PEM `yaml:"key"`
}

// PEM is PEM text that may hold a private key, so printing it says only its length.
type PEM string

// String gives the length, never the text.
func (p PEM) String() string { return fmt.Sprintf("[%d bytes of PEM]", len(p)) }

// GoString gives the length, never the text.
func (p PEM) GoString() string { return p.String() }

// Load reads a file. A file that does not exist is NotFound, one that group or
// others may read is Denied, an unknown key is Invalid.
func Load(path string) (*File, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open contexts %s: %w", path, errs.NotFound)
	} else if err != nil {
		return nil, fmt.Errorf("open contexts: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("open contexts %s: it holds a private key and others may read it (mode %04o; chmod 600 mends it): %w",
			path, st.Mode().Perm(), errs.Denied)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open contexts: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read contexts %s: %w", path, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read contexts %s: larger than %d bytes: %w", path, maxFile, errs.Invalid)
	}
	return decode(path, b)
}

func decode(path string, b []byte) (*File, error) {
	var out File
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read contexts %s: %w: %w", path, err, errs.Invalid)
	}
	seen := map[string]bool{}
	for _, c := range out.Contexts {
		if c.Name == "" || seen[c.Name] {
			return nil, fmt.Errorf("read contexts %s: context name %q is empty or not unique: %w", path, c.Name, errs.Invalid)
		}
		seen[c.Name] = true
	}
	return &out, nil
}

// Save replaces the file; a crash leaves the old or the new one whole. The
// folder is made 0700.
func (f *File) Save(path string) error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(f), e.Close()); err != nil {
		return fmt.Errorf("write contexts %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return durable.WriteFile(path, b.Bytes())
}

// Get finds a context by name; the empty name means the current one.
func (f *File) Get(name string) (*Context, error) {
	if name == "" {
		name = f.Current
	}
	for i := range f.Contexts {
		if f.Contexts[i].Name == name {
			return &f.Contexts[i], nil
		}
	}
	if name == "" {
		return nil, fmt.Errorf("current context: none is set: %w", errs.NotFound)
	}
	return nil, fmt.Errorf("context %q: %w", name, errs.NotFound)
}

// Add appends a context and makes it current when it is the first. A name that
// is taken is Exists.
func (f *File) Add(c Context) error {
	if c.Name == "" {
		return fmt.Errorf("add context: the name is empty: %w", errs.Invalid)
	}
	if _, err := f.Get(c.Name); err == nil {
		return fmt.Errorf("add context %q: %w", c.Name, errs.Exists)
	}
	f.Contexts = append(f.Contexts, c)
	if f.Current == "" {
		f.Current = c.Name
	}
	return nil
}

// Remove takes a context out; the current one leaves none current.
func (f *File) Remove(name string) error {
	for i := range f.Contexts {
		if f.Contexts[i].Name == name {
			f.Contexts = append(f.Contexts[:i], f.Contexts[i+1:]...)
			if f.Current == name {
				f.Current = ""
			}
			return nil
		}
	}
	return fmt.Errorf("remove context %q: %w", name, errs.NotFound)
}
