package pgtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// privateInstallation lays out a copy of the installation in the server's
// folder, with more extension files, and returns the server program in it.
// PostgreSQL finds its shared files relative to where its program really is, so
// one copied program and links for the rest are enough.
func (s *Server) privateInstallation(ctx context.Context) (string, error) {
	bin, err := filepath.EvalSymlinks(s.Bin)
	if err != nil {
		return "", err
	}
	share, lib, err := s.folders(ctx, bin)
	if err != nil {
		return "", err
	}
	root := filepath.Join(s.Dir, "install")
	program := filepath.Join(root, bin, "postgres")
	if err := copyFile(filepath.Join(bin, "postgres"), program, 0o755); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(root, lib)), 0o755); err != nil {
		return "", err
	}
	if err := os.Symlink(lib, filepath.Join(root, lib)); err != nil {
		return "", err
	}
	if err := linkAll(share, filepath.Join(root, share), "extension"); err != nil {
		return "", err
	}
	extension := filepath.Join(root, share, "extension")
	if err := linkAll(filepath.Join(share, "extension"), extension, ""); err != nil {
		return "", err
	}
	for name, text := range s.opts.Extensions {
		if err := os.WriteFile(filepath.Join(extension, filepath.Base(name)), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	// A server that is not root's must be able to remove the tree again.
	return program, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || s.cred == nil {
			return err
		}
		return os.Lchown(path, int(s.cred.Uid), int(s.cred.Gid))
	})
}

// folders gives the folders of shared files and of libraries.
func (s *Server) folders(ctx context.Context, bin string) (share, lib string, err error) {
	if _, err := os.Stat(filepath.Join(bin, "pg_config")); os.IsNotExist(err) {
		// A server without client programs, everything in one folder.
		root := filepath.Dir(bin)
		return filepath.Join(root, "share", "postgresql"), filepath.Join(root, "lib"), nil
	}
	if share, err = s.configured(ctx, "--sharedir"); err != nil {
		return "", "", err
	}
	lib, err = s.configured(ctx, "--pkglibdir")
	return share, lib, err
}

// configured asks the installation where its files are.
func (s *Server) configured(ctx context.Context, what string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(s.Bin, "pg_config"), what).Output()
	if err != nil {
		return "", fmt.Errorf("ask pg_config %s: %w", what, err)
	}
	dir := strings.TrimSpace(string(out))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	// An installation that was moved as a whole, whose pg_config tells the old place.
	if i := strings.Index(s.Bin, "/usr/lib/postgresql/"); i > 0 {
		return s.Bin[:i] + dir, nil
	}
	return dir, nil
}

// linkAll makes the folder to with a link to each entry of from but one.
func linkAll(from, to, except string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == except {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // the copy's error says more
		return err
	}
	return out.Close()
}
