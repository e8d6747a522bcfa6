package plan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tuskvault/tuskvault/agent/internal/host"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// Disk is what is known of the file systems under a server.
type Disk struct {
	// Unchecked says why nothing is known, and Hint what would mend that.
	Unchecked, Hint string
	// Spaces has the file system of each tablespace, those included that would be made.
	Spaces map[pg.Name]Space
	// WAL is where the write-ahead log is.
	WAL Space
}

// Space is a file system as one folder on it shows it.
type Space struct {
	Path string
	host.Space
}

// readDisk looks at the server's file systems, which are seen only from its own
// host. That this is it must be certain: a figure of another host's disk is worse
// than none.
func (t *Target) readDisk(ctx context.Context, c *postgres.Conn, q inquiry) error {
	var data string
	var id, started int64
	err := c.Each(ctx, `SELECT coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'), ''),
		(SELECT system_identifier::text::int8 FROM pg_catalog.pg_control_system()), extract(epoch FROM pg_catalog.pg_postmaster_start_time())::int8`,
		nil, []any{&data, &id, &started}, func() error { return nil })
	if err != nil {
		return err
	}
	if data == "" {
		t.Disk.Unchecked, t.Disk.Hint = "the role may not read data_directory", "GRANT pg_monitor TO "+t.Role.Quote()+";"
		return nil
	}
	if t.Disk.Unchecked = elsewhere(data, uint64(id), started, c.Local()); t.Disk.Unchecked != "" {
		return nil
	}
	return t.readSpaces(ctx, c, q, data)
}

func (t *Target) readSpaces(ctx context.Context, c *postgres.Conn, q inquiry, data string) error {
	folders := map[pg.Name]string{}
	var name pg.Name
	var location string
	err := c.Each(ctx, "SELECT spcname::text, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace", nil, []any{&name, &location}, func() error {
		folders[name] = location
		if location == "" {
			folders[name] = data
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name, location := range q.locations(t) {
		folders[name] = existing(location)
	}
	t.Disk.Spaces = map[pg.Name]Space{}
	for name, folder := range folders {
		if space, err := host.SpaceOf(folder); err == nil { // one that is closed to us stays unknown
			t.Disk.Spaces[name] = Space{folder, space}
		}
	}
	// pg_wal may be a link to another disk. Its name can be looked up only where the
	// data directory is open to us; else the data directory's own disk is taken.
	t.Disk.WAL = t.Disk.Spaces["pg_default"]
	if space, err := host.SpaceOf(filepath.Join(data, "pg_wal")); err == nil {
		t.Disk.WAL = Space{filepath.Join(data, "pg_wal"), space}
	}
	if t.Disk.WAL.Path == "" {
		t.Disk.Unchecked = "the folder " + data + " cannot be looked at from here"
	}
	return nil
}

// existing gives the folder, or the first one above it that exists.
func existing(folder string) string {
	for folder != filepath.Dir(folder) {
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		folder = filepath.Dir(folder)
	}
	return folder
}

// startTolerance is by how much the time in postmaster.pid may differ from what
// the server says, in seconds: the one is taken when the process begins, the
// other when it is ready to read its settings.
const startTolerance = 60

// elsewhere tells why the server's data directory may not be the one of that
// name on this host; "" when it is. Of two servers of one cluster the system
// identifier is the same, so that the time of the start must be too, unless the
// session goes over a Unix socket.
func elsewhere(data string, id uint64, started int64, socket bool) string {
	control, err := readHead(filepath.Join(data, "global", "pg_control"), 8)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the server is elsewhere: this host has no " + data
	case errors.Is(err, fs.ErrPermission) && socket:
		return ""
	case err != nil:
		return fmt.Sprintf("the server may be elsewhere: it was not reached over its Unix socket, and %s cannot be read", data)
	case binary.NativeEndian.Uint64(control) != id:
		return fmt.Sprintf("the server is elsewhere: %s on this host is of another one", data)
	case socket:
		return ""
	}
	pid, err := readHead(filepath.Join(data, "postmaster.pid"), 4096)
	lines := bytes.Split(pid, []byte("\n"))
	if err != nil && len(pid) == 0 || len(lines) < 3 {
		return fmt.Sprintf("the server may be elsewhere: no server runs in %s on this host", data)
	}
	at, err := strconv.ParseInt(string(lines[2]), 10, 64)
	if err != nil || at < started-startTolerance || at > started+startTolerance {
		return fmt.Sprintf("the server may be elsewhere: the one in %s on this host was started at another time", data)
	}
	return ""
}

// readHead reads at most the first n bytes of a file; fewer than eight are an error.
func readHead(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, n)
	got, err := f.Read(b)
	if err == nil && got < 8 {
		err = fmt.Errorf("%s has %d bytes", path, got)
	}
	return b[:max(got, 0)], err
}
