package blob

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Bytes is a Body in memory. The slice must not change while a Create uses it.
type Bytes []byte

// Size is the number of bytes.
func (b Bytes) Size() int64 { return int64(len(b)) }

// Open reads from the first byte.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Parts is a Body that is the concatenation of its slices, so that a large
// object need not be copied together. The slices must not change while a Create
// uses it.
type Parts [][]byte

// Size is the sum of the slices' lengths.
func (p Parts) Size() int64 {
	var n int64
	for _, part := range p {
		n += int64(len(part))
	}
	return n
}

// Open reads from the first byte of the first slice.
func (p Parts) Open() (io.ReadCloser, error) {
	readers := make([]io.Reader, len(p))
	for i, part := range p {
		readers[i] = bytes.NewReader(part)
	}
	return io.NopCloser(io.MultiReader(readers...)), nil
}

// File is the Body of the regular file at path, which must stay as it is until
// the Create that uses it has returned. A file that cannot be looked at has
// size 0, and Open tells the reason.
func File(path string) Body {
	info, err := os.Stat(path)
	if err != nil {
		return fileBody{path: path, err: err}
	}
	if !info.Mode().IsRegular() {
		return fileBody{path: path, err: &fs.PathError{Op: "stat", Path: path, Err: errs.Invalid}}
	}
	return fileBody{path: path, size: info.Size()}
}

type fileBody struct {
	path string
	size int64
	err  error
}

func (f fileBody) Size() int64 { return f.size }

func (f fileBody) Open() (io.ReadCloser, error) {
	if f.err != nil {
		return nil, fmt.Errorf("open body: %w: %w", f.err, errs.Invalid)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("open body: %w: %w", err, errs.Invalid)
	}
	return file, nil
}

// CopyBody writes the whole of b to w and fails, with errs.Invalid, when b gives
// fewer or more bytes than its Size: a body that changed or broke off midway
// must never become an object. Drivers use it to write.
func CopyBody(w io.Writer, b Body) (err error) {
	r, err := b.Open()
	if err != nil {
		return err
	}
	defer func() {
		if e := r.Close(); err == nil && e != nil {
			err = fmt.Errorf("close body: %w", e)
		}
	}()
	// One byte more than promised tells a body that grew from one that did not.
	n, err := io.Copy(w, io.LimitReader(r, b.Size()+1))
	if err != nil {
		return err
	}
	if n != b.Size() {
		return fmt.Errorf("body gave %d bytes or more, promised %d: %w", n, b.Size(), errs.Invalid)
	}
	return nil
}
