package index

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Files are named SEQUENCE-ID.index: 16 hex digits that rise with each file
// (the order of "newest first"), and the file's id. Temporary files begin with
// tmp-. Other names in the folder are left alone.
const (
	tempPrefix = "tmp-"
	fileSuffix = ".index"
)

// fileName is the name of a file, taken apart.
type fileName struct {
	seq uint64
	id  FileID
}

func (n fileName) path(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%016x-%s%s", n.seq, hex.EncodeToString(n.id[:]), fileSuffix))
}

func parseFileName(name string) (fileName, bool) {
	base, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || len(base) != 16+1+64 || base[16] != '-' {
		return fileName{}, false
	}
	seq, err := strconv.ParseUint(base[:16], 16, 64)
	if err != nil {
		return fileName{}, false
	}
	id, err := ParseFileID(base[17:])
	return fileName{seq: seq, id: id}, err == nil
}

// listFolder gives the index files in a folder and removes temporary ones.
func listFolder(dir string) ([]fileName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errs.OfFile(err)
	}
	var names []fileName
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, errs.OfFile(err)
			}
			continue
		}
		if n, ok := parseFileName(e.Name()); ok {
			names = append(names, n)
		}
	}
	return names, nil
}

// create writes a file durably and maps it. If one of old has the same id,
// nothing is kept and that one is given back.
func (s *Set) create(seq uint64, old []*file, write func(io.Writer) (FileID, error)) (_ *file, err error) {
	temp, err := os.CreateTemp(s.dir, tempPrefix+"*")
	if err != nil {
		return nil, errs.OfFile(err)
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	id, err := write(temp)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return nil, errs.OfFile(err)
	}
	for _, f := range old {
		if f.info.ID == id {
			return f, nil
		}
	}
	// Verified before it has a name that Open would trust.
	f, err := openFile(temp.Name(), seq, s.domain, id, true)
	if err != nil {
		return nil, err
	}
	path := fileName{seq: seq, id: id}.path(s.dir)
	if err := os.Rename(temp.Name(), path); err != nil {
		return nil, errors.Join(errs.OfFile(err), f.close())
	}
	renamed = true
	f.info.Path = path
	if err := syncFolder(s.dir); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return errs.OfFile(err)
	}
	return errs.OfFile(errors.Join(d.Sync(), d.Close()))
}
