// Package s3test runs a real S3 server, versitygw over a temporary folder, for
// tests. `make versitygw` installs it into .bin; where it is missing tests are
// skipped, or fail when REQUIRE_SERVICES=1.
package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// The credentials of every server.
const (
	AccessKey = "tuskvault-test"
	SecretKey = "tuskvault-test-secret"
)

// Server is a running S3 server.
type Server struct {
	// Endpoint is http://127.0.0.1:PORT.
	Endpoint string

	dir     string
	buckets atomic.Int64
	command *exec.Cmd
	log     *lockedBuffer
	done    chan struct{}
}

// Find returns the path of versitygw: TUSKVAULT_VERSITYGW if it is set, else
// .bin/versitygw beside go.work, else the one of PATH. It fails with
// errs.NotFound when there is none.
func Find() (string, error) { return find("TUSKVAULT_VERSITYGW", "versitygw") }

// find looks for a program: in a variable, .bin beside go.work, PATH.
func find(variable, name string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err != nil {
			continue
		}
		path := filepath.Join(dir, ".bin", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("find %s: not in %s, .bin, PATH; run make %s: %w", name, variable, name, errs.NotFound)
}

// Start runs a server until the test ends, and gives the test and what it
// starts the credentials for it.
func Start(t testing.TB) *Server {
	t.Helper()
	return begin(t, "")
}

// StartVersioned is Start of a server whose buckets can keep versions and lock
// objects: those that VersionedBucket makes.
func StartVersioned(t testing.TB) *Server {
	t.Helper()
	return begin(t, t.TempDir())
}

func begin(t testing.TB, versions string) *Server {
	t.Helper()
	program, err := Find()
	if errors.Is(err, errs.NotFound) && os.Getenv("REQUIRE_SERVICES") != "1" {
		t.Skipf("no S3 server: %v", err)
	}
	if err != nil {
		t.Fatalf("start S3 server: %v", err)
	}
	Credentials(t, AccessKey, SecretKey)
	// Another process may take the port between our look and the server's.
	for range 3 {
		var s *Server
		if s, err = start(program, t.TempDir(), versions); err == nil {
			t.Cleanup(func() {
				s.stop()
				if t.Failed() {
					t.Logf("S3 server:\n%s", s.log.tail())
				}
			})
			return s
		}
	}
	t.Fatalf("start S3 server: %v", err)
	return nil
}

// Credentials sets what the SDK's chain finds, and keeps it from finding
// anything of the machine's.
func Credentials(t testing.TB, key, secret string) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(name, value)
	}
}

// Bucket makes a new bucket and gives its name.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", s.buckets.Add(1))
	if err := os.Mkdir(s.Folder(name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// Folder is where the server keeps a bucket: a file for each object.
func (s *Server) Folder(bucket string) string { return filepath.Join(s.dir, bucket) }

// URL is a bucket's as a store.
func (s *Server) URL(bucket, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&path_style=true", bucket, prefix, s.Endpoint)
}

func start(program, dir, versions string) (*Server, error) {
	return launch(dir, func(address string) *exec.Cmd {
		c := exec.Command(program, "--port", address, "--access", AccessKey, "--secret", SecretKey, "--keep-alive", "--quiet", "posix")
		if versions != "" {
			c.Args = append(c.Args, "--versioning-dir", versions)
		}
		c.Args = append(c.Args, dir)
		c.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "VGW_") || strings.HasPrefix(e, "AWS_") })
		return c
	})
}

// launch starts a server on a free port and waits until it answers.
func launch(dir string, command func(address string) *exec.Cmd) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &Server{Endpoint: "http://" + address, dir: dir, log: &lockedBuffer{}, done: make(chan struct{})}
	s.command = command(address)
	s.command.Stdout, s.command.Stderr = s.log, s.log
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process; stop waits for it
		_ = s.command.Wait() // killed, or the log tells why
		close(s.done)
	}()
	if err := s.ready(); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.log.tail())
	}
	return s, nil
}

// readyTime bounds the wait for a server, which commonly takes 0.3 s.
const readyTime = 20 * time.Second

func (s *Server) ready() error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	limit, tick := time.After(readyTime), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := client.Get(s.Endpoint); err == nil {
			return r.Body.Close() // whatever it says: it answers
		}
		select {
		case <-s.done:
			return errors.New("the server ended")
		case <-limit:
			return errors.New("the server does not answer")
		case <-tick.C:
		}
	}
}

func (s *Server) stop() {
	_ = s.command.Process.Kill() // it may be gone
	<-s.done
}

// lockedBuffer collects the server's output.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.b.String()
	return text[max(0, len(text)-4096):]
}
