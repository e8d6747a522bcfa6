package postgres

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// maxServers bounds the installations that are looked at, maxControlFiles the
// extensions that are listed of each.
const (
	maxServers      = 32
	maxControlFiles = 1000
)

// oldestServer is the oldest major that is restored into.
const oldestServer = 13

// Server is an installation of the server programs.
type Server struct {
	// Folder of initdb and postgres.
	Folder string
	// Version of postgres.
	Version pg.Version
	// Extensions that could be created, by name; ExtensionsKnown tells whether
	// those are all.
	Extensions      []string
	ExtensionsKnown bool
	// Libraries is the folder of loadable modules, empty when it is not known.
	Libraries string
	// Amcheck is the path of pg_amcheck, empty when there is none.
	Amcheck string
}

// FindServers looks for server programs in dirs, in the usual places of
// distributions and in PATH: folders with both postgres and initdb.
func FindServers(ctx context.Context, dirs []string) []Server {
	var all []Server
	seen := map[string]bool{}
	for _, t := range FindTools(ctx, "postgres", dirs).Found {
		folder := filepath.Dir(t.Path)
		if real, err := filepath.EvalSymlinks(t.Path); err == nil && executable(filepath.Join(filepath.Dir(real), "initdb")) {
			folder = filepath.Dir(real)
		}
		if seen[folder] || !executable(filepath.Join(folder, "initdb")) || t.Version.Major() < oldestServer || len(all) == maxServers {
			continue
		}
		seen[folder] = true
		s := Server{Folder: folder, Version: t.Version, Libraries: libraryFolder(ctx, folder)}
		if tool := filepath.Join(folder, "pg_amcheck"); executable(tool) {
			s.Amcheck = tool
		}
		s.Extensions, s.ExtensionsKnown = controlFiles(shareFolders(ctx, s))
		all = append(all, s)
	}
	return all
}

// configValue asks the installation's pg_config, "" when there is none.
func configValue(ctx context.Context, folder, flag string) string {
	tool := filepath.Join(folder, "pg_config")
	if !executable(tool) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, flag)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}

// libraryFolder is where loadable modules are, "" when that is not known.
func libraryFolder(ctx context.Context, folder string) string {
	for _, dir := range []string{configValue(ctx, folder, "--pkglibdir"), filepath.Join(filepath.Dir(folder), "lib", "postgresql"), filepath.Join(filepath.Dir(folder), "lib")} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}

// shareFolders are where the files of extensions may be, the surest first.
func shareFolders(ctx context.Context, s Server) []string {
	prefix := filepath.Dir(s.Folder)
	// The second is Debian's, wherever the whole was put: lib/postgresql/NN beside share/postgresql/NN.
	return []string{configValue(ctx, s.Folder, "--sharedir"), filepath.Join(prefix, "../../../share/postgresql", filepath.Base(prefix)),
		filepath.Join(prefix, "share", "postgresql"), filepath.Join(prefix, "share")}
}

// controlFiles lists the extensions in the first folder that has any.
func controlFiles(folders []string) (names []string, known bool) {
	for _, folder := range folders {
		if folder == "" {
			continue
		}
		files, err := os.ReadDir(filepath.Join(folder, "extension"))
		if err != nil {
			continue
		}
		for _, f := range files {
			name, ok := strings.CutSuffix(f.Name(), ".control")
			if ok && !strings.Contains(name, "--") {
				names = append(names, name)
			}
		}
		// Every installation has this one: without it the folder is not the right one.
		if !slices.Contains(names, "plpgsql") {
			names = nil
			continue
		}
		if len(names) > maxControlFiles {
			return names[:maxControlFiles], false
		}
		return names, true
	}
	return nil, false
}

// ServerFor picks the installation for a snapshot: of the same major version,
// else of the nearest newer one; of several with one major the first.
func ServerFor(all []Server, version pg.Version) (Server, bool) {
	var best Server
	for _, s := range all {
		if s.Version.Major() >= version.Major() && (best.Folder == "" || s.Version.Major() < best.Version.Major()) {
			best = s
		}
	}
	return best, best.Folder != ""
}
