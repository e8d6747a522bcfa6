package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const testPassphrase = "correct horse battery staple"

// secrets gathers what must be seen nowhere.
type secrets struct {
	t     *testing.T
	forms map[string][]byte // what it is, and one way to write it
}

func (s *secrets) add(what string, key []byte) {
	s.forms[what+", raw"] = key
	s.forms[what+", hex"] = []byte(hex.EncodeToString(key))
	s.forms[what+", base64"] = bytes.TrimRight([]byte(base64.StdEncoding.EncodeToString(key)), "=")
}

// repository takes in every key of a repository that its key file opens.
func (s *secrets) repository(store string, file []byte) {
	s.t.Helper()
	ctx := s.t.Context()
	u, err := seal.ParseKeyFile(file)
	must(s.t, err)
	_, _, _, root := u.Derive().Parts()
	s.add("key file", root[:])
	st, err := dir.OpenReadOnly(store)
	must(s.t, err)
	r, err := repo.Open(ctx, st, u)
	must(s.t, err)
	d := r.Description()
	must(s.t, st.List(ctx, repo.KeysPrefix, "", func(info blob.Info) error {
		_, n, err := repo.ParseKeyObject(info.Key)
		if err != nil {
			return nil // a succession
		}
		wrapped, err := blob.ReadAll(ctx, st, info.Key, 1<<16)
		must(s.t, err)
		m, err := u.Unwrap(wrapped, append(append([]byte(nil), d.Hash[:]...), info.Key...))
		if err != nil {
			return nil // another's
		}
		s.add(fmt.Sprint("master key ", n), m[:])
		for name, k := range map[string]seal.Key{"wrap-domain": m.WrapDomain(), "catalog": m.Catalog(), "ca": m.CA()} {
			s.add(fmt.Sprint(name, " of master key ", n), k[:])
		}
		return nil
	}))
	must(s.t, r.Domains(ctx, func(id seal.DomainID) error {
		d, err := r.Domain(ctx, id)
		must(s.t, err)
		k := d.Keys()
		for name, key := range map[string]seal.Key{"data": k.Data, "control": k.Control, "name": k.Name(), "cut": k.Cut(), "refs": k.Refs(),
			"pack": k.Pack(), "commit": k.Commit(), "seal 1": k.Seal(1), "seal 2": k.Seal(2)} {
			s.add(name+" of domain "+id.String(), key[:])
		}
		return nil
	}))
}

// absent wants none of them in a text.
func (s *secrets) absent(where string, text []byte) {
	s.t.Helper()
	for what, form := range s.forms {
		if bytes.Contains(text, form) {
			s.t.Errorf("%s shows %s", where, what)
		}
	}
}

// TestNoKeyIsEverShown does what touches keys with the real programs, logging
// everything they can log, and looks for every key in all that they leave.
func TestNoKeyIsEverShown(t *testing.T) {
	pg := shared.Server(t)
	s := system(t)
	ctx := t.Context()
	must(t, s.Init(ctx))
	file, err := os.ReadFile(filepath.Join(s.ControllerDir(), "unlock.key"))
	must(t, err)
	found := &secrets{t: t, forms: map[string][]byte{"passphrase": []byte(testPassphrase)}}
	must(t, s.StartController(ctx, "--log-level", "debug"))
	must(t, s.Enroll(ctx, "db1", pg.Env("postgres"), "--log-level", "debug"))
	hardened(t, "controller", s.Controller)
	hardened(t, "agent", s.Agents["db1"])

	var said bytes.Buffer
	run := func(args ...string) {
		t.Helper()
		r := s.Ctl(ctx, args...)
		must(t, r.Err())
		fmt.Fprintln(&said, r.Stdout, r.Stderr)
	}
	id := backup(t, s, "--database", "postgres")
	found.repository(s.StoreDir(), file)
	passphrase := filepath.Join(s.Dir, "passphrase")
	must(t, os.WriteFile(passphrase, []byte(testPassphrase), 0o600))
	run("repo", "key", "add", "--name", "desk", "--passphrase", "file:"+passphrase)
	run("repo", "key", "rotate", "--seal-keys")
	if !strings.Contains(said.String(), "new seal key") {
		t.Errorf("rotate said: %s", said.String())
	}
	refused(t, s, 2, []string{"these keys stop working", "desk", "repo key add"}, "repo", "key", "rotate")
	run("repo", "key", "rotate", "--yes")
	found.repository(s.StoreDir(), file)
	run("repo", "check", "--read-data")
	again := backup(t, s, "--database", "postgres") // the running programs go on under the new key
	run("restore", id, "--to", "db1/main", "--database", "postgres=again", "--wait", "-o", "json")
	run("snapshot", "export", again, "--database", "postgres", "--format", "directory", "--output", filepath.Join(s.Dir, "exported"))
	for _, args := range [][]string{{"repo", "key", "ls"}, {"job", "ls"}, {"instance", "show", "db1/main"}, {"status"}, {"events"}} {
		run(args...)
		run(append(args, "-o", "json")...)
	}
	// What fails says what failed.
	for _, args := range [][]string{{"repo", "key", "rm", "ffff", "--yes"}, {"instance", "erase", "db1/main", "--yes", "--confirm", "db1"}} {
		r := s.Ctl(ctx, args...)
		if r.Code == 0 {
			t.Errorf("%v succeeded", args)
		}
		fmt.Fprintln(&said, r.Stdout, r.Stderr)
	}
	run("instance", "erase", "db1/main", "--yes", "--confirm", "db1/main")
	refused(t, s, 3, nil, "snapshot", "show", id)
	next := backup(t, s, "--database", "postgres")
	if next == id || next == again {
		t.Error("no new snapshot after the erasure")
	}
	run("repo", "check", "--read-data")
	for name, p := range map[string]*harness.Process{"controller": s.Controller, "agent": s.Agents["db1"]} {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Pid(), file))
			if err != nil && os.Geteuid() == 0 {
				t.Error(err)
			}
			found.absent(name+"'s "+file, text)
		}
	}
	found.absent("what tuskctl said", said.Bytes())
	must(t, filepath.WalkDir(s.StoreDir(), func(path string, _ fs.DirEntry, err error) error {
		for _, name := range []string{"db1", "main", "postgres", "desk"} {
			if strings.Contains(strings.TrimPrefix(path, s.StoreDir()), "/"+name) {
				t.Errorf("%s: the key of an object shows a name", path)
			}
		}
		return err
	}))
	logs, err := filepath.Glob(filepath.Join(s.Dir, "*.log"))
	if err != nil || len(logs) < 2 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	for _, path := range append(logs, filepath.Join(s.ControllerDir(), "catalog.db")) {
		text, err := os.ReadFile(path)
		must(t, err)
		found.absent(filepath.Base(path), text)
	}
	// A controller that is made again from the store and the key knows all of it.
	key := filepath.Join(s.Dir, "key")
	must(t, os.WriteFile(key, file, 0o600))
	must(t, errors.Join(s.Controller.Kill(), os.RemoveAll(s.ControllerDir())))
	must(t, s.Rebuild(ctx, "file:"+key).Err())
	must(t, s.StartController(ctx))
	refused(t, s, 3, nil, "snapshot", "show", id)
	ok(t, s, "snapshot", "show", next)
	ok(t, s, "repo", "check")
	if len(found.forms) < 55 {
		t.Errorf("only %d forms of keys were looked for", len(found.forms))
	}
}

// hardened wants a running program to leave no core file.
func hardened(t *testing.T, name string, p *harness.Process) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Pid()))
	if err != nil || !regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).Match(limits) {
		t.Errorf("%s: limits, %v:\n%s", name, err, limits)
	}
}
