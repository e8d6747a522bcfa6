package controller_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines takes log lines and gives the address that the controller says it serves on.
type lines struct{ seen chan string }

func (l lines) Write(b []byte) (int, error) {
	if _, rest, ok := strings.Cut(string(b), `"msg":"serving","address":"`); ok {
		address, _, _ := strings.Cut(rest, `"`)
		l.seen <- address
	}
	return len(b), nil
}

// start runs a controller until stop is called, which gives what Run returned.
func start(t *testing.T, c controller.Config) (address string, stop func() error) {
	t.Helper()
	var err error
	if c.Unlock.IsZero() {
		if c.Unlock, err = config.ParseSecret("file:" + filepath.Join(c.StateDir, "unlock.key")); err != nil {
			t.Fatal(err)
		}
	}
	out := lines{make(chan string, 1)}
	l, err := logging.New(logging.Options{Format: "json", Output: out})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- controller.New(c, l).Run(ctx) }()
	select {
	case address = <-out.seen:
	case err := <-ended:
		cancel()
		ended <- err
	case <-time.After(30 * time.Second):
		t.Error("the controller does not serve")
	}
	return address, func() error { cancel(); return <-ended }
}

// call makes a call without arguments and gives the answer as it is on the wire,
// since generated messages stay at the edge.
func call(t *testing.T, conn *grpc.ClientConn, method string) ([]byte, error) {
	t.Helper()
	answer := &emptypb.Empty{}
	err := conn.Invoke(t.Context(), "/tuskvault.v1.StatusService/"+method, &emptypb.Empty{}, answer)
	return answer.ProtoReflect().GetUnknown(), err
}

// status checks that the controller at address serves its first admin.
func status(t *testing.T, c controller.Config, address string) {
	t.Helper()
	file, err := access.Load(filepath.Join(c.StateDir, "admin-context.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := file.Get("")
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.ParseIdentity(entry.Identity())
	if err != nil {
		t.Fatal(err)
	}
	tls, err := id.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(address, tls)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if who, err := call(t, conn, "WhoAmI"); err != nil || !bytes.Contains(who, []byte("operator/admin")) {
		t.Errorf("who am I: %q, %v", who, err)
	}
	if s, err := call(t, conn, "GetStatus"); err != nil || !bytes.Contains(s, []byte(c.Name)) {
		t.Errorf("status: %q, %v", s, err)
	}
}

func serves(t *testing.T, c controller.Config) {
	t.Helper()
	address, stop := start(t, c)
	if address != "" {
		status(t, c, address)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
}

func initialized(t *testing.T) controller.Config {
	t.Helper()
	c := fresh(t)
	if _, err := controller.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAControllerServesItsAdminStopsAndStartsAgain(t *testing.T) {
	c := initialized(t)
	serves(t, c)
	serves(t, c)
}

func TestNobodyIsServedWithoutACertificateOfThisController(t *testing.T) {
	c := initialized(t)
	address, stop := start(t, c)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	file, err := access.Load(filepath.Join(c.StateDir, "admin-context.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := file.Get("")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(entry.Root))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	anonymous, err := pki.ClientTLS(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(address, anonymous)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = call(t, conn, "GetStatus")
	if errs.KindOf(err) != errs.Unauthenticated {
		t.Errorf("without a certificate: %v", err)
	}
	old := anonymous.Clone()
	old.MaxVersion = tls.VersionTLS12
	old.MinVersion = tls.VersionTLS12
	if c, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", address); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestAStateFolderHasOneControllerAtATime(t *testing.T) {
	c := initialized(t)
	_, stop := start(t, c)
	_, second := start(t, c)
	if err := second(); errs.KindOf(err) != errs.Busy || !strings.Contains(err.Error(), c.StateDir) {
		t.Errorf("a second controller: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAControllerDoesNotStartOnWhatIsNotIts(t *testing.T) {
	c, other := initialized(t), initialized(t)
	mixed := c
	mixed.Store = other.Store
	mixed.Unlock, _ = config.ParseSecret("file:" + filepath.Join(other.StateDir, "unlock.key"))
	for name, row := range map[string]struct {
		config controller.Config
		kind   *errs.Kind
	}{
		"another repository":   {mixed, errs.Conflict},
		"the wrong key":        {func() controller.Config { x := c; x.Unlock = mixed.Unlock; return x }(), errs.Denied},
		"a store that is away": {func() controller.Config { x := c; x.Store += "-gone"; return x }(), errs.NotFound},
		"no store":             {func() controller.Config { x := c; x.Store = ""; return x }(), errs.Invalid},
	} {
		_, stop := start(t, row.config)
		if err := stop(); errs.KindOf(err) != row.kind {
			t.Errorf("%s: %v, want %v", name, err, row.kind)
		}
	}
	if err := os.WriteFile(filepath.Join(c.StateDir, "catalog.db"), make([]byte, 32768), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := start(t, c)
	if err := stop(); errs.KindOf(err) != errs.Corrupt || !strings.Contains(err.Error(), "catalog.db") {
		t.Errorf("a damaged catalog: %v", err)
	}
}

func TestAnAddressInUseIsSaid(t *testing.T) {
	c := initialized(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c.Listen = l.Addr().String()
	_, stop := start(t, c)
	if err := stop(); err == nil || !strings.Contains(err.Error(), c.Listen) {
		t.Errorf("an address in use: %v", err)
	}
}

// A newer epoch in the store means that another controller has taken over.
func TestAControllerThatWasTakenOverStops(t *testing.T) {
	c := initialized(t)
	_, stop := start(t, c)
	takeOver(t, c)
	address, again := start(t, c)
	if err := again(); address != "" || err == nil {
		t.Errorf("a second process ran: %v", err)
	}
	if err := stop(); err != nil && !errors.Is(err, errs.Conflict) {
		t.Errorf("the first: %v", err)
	}
	address, late := start(t, c)
	if err := late(); address != "" || errs.KindOf(err) != errs.Conflict {
		t.Errorf("started after the take-over: %q, %v", address, err)
	}
}

func takeOver(t *testing.T, c controller.Config) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.StateDir, "unlock.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	store, err := dir.Open(strings.TrimPrefix(c.Store, "file://"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), store, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ClaimEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
}
