package s3_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func refused(t *testing.T, c s3.Config, want *errs.Kind, words ...string) {
	t.Helper()
	s, err := s3.Open(t.Context(), c)
	if err == nil {
		s.Close()
	}
	kindIs(t, err, want)
	has(t, err, words...)
}

func TestAServiceThatDoesNotKeepTheContractIsRefused(t *testing.T) {
	p := newProxy(t)
	confirms := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		text(200, "text/plain", "")(w, r)
	}
	for name, c := range map[string]struct {
		method string
		times  int
		answer http.HandlerFunc
		words  string
	}{
		"both of two creates win":         {http.MethodPut, 2, confirms, "overwritten although If-None-Match"},
		"creates do not know If-None":     {http.MethodPut, -1, says(501, "NotImplemented"), "does not know If-None-Match"},
		"what was written cannot be read": {http.MethodGet, -1, stale(p, says(404, "NoSuchKey")), "does not show at once"},
		"other bytes are given":           {http.MethodGet, -1, stale(p, whole("other bytes")), "other bytes than were written"},
		"lists are stale":                 {http.MethodGet, -1, staleList(p), "does not list at once"},
	} {
		t.Run(name, func(t *testing.T) {
			defer p.mends()
			p.breaks(c.method, c.times, c.answer)
			refused(t, p.config(), errs.Unsupported, c.words, p.bucket)
		})
	}
	t.Run("a later create wins", func(t *testing.T) {
		defer p.mends()
		p.breaks(http.MethodPut, 1, p.forward.ServeHTTP)
		p.breaks(http.MethodPut, 1, says(409, "ConditionalRequestConflict"))
		p.breaks(http.MethodPut, 1, confirms)
		refused(t, p.config(), errs.Unsupported, "overwritten although If-None-Match")
	})
	entries, err := os.ReadDir(p.real.Folder(p.bucket))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".tuskvault") {
			t.Errorf("left: %s", e.Name())
		}
	}
}

// stale answers the reads of objects, and forwards lists.
func stale(p *proxy, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			p.forward.ServeHTTP(w, r)
			return
		}
		answer(w, r)
	}
}

// staleList answers lists with nothing, and forwards reads.
func staleList(p *proxy) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("list-type") {
			p.forward.ServeHTTP(w, r)
			return
		}
		text(200, "application/xml", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")(w, r)
	}
}

// whole answers a read with an object, as a service does that knows no ranges.
func whole(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		text(200, "application/octet-stream", body)(w, r)
	}
}

func TestOpeningWaitsOutWhatPasses(t *testing.T) {
	p := newProxy(t)
	p.breaks(http.MethodGet, 2, says(503, "SlowDown"))
	p.breaks(http.MethodPut, 3, says(500, "InternalError"))
	open(t, p.config())
}

func TestWhoMayNotDeleteMayStillOpen(t *testing.T) {
	p := newProxy(t)
	p.breaks(http.MethodDelete, -1, says(403, "AccessDenied"))
	s := open(t, p.config())
	err := s.List(t.Context(), "", "", func(i blob.Info) error { return fmt.Errorf("the probe is listed: %s", i.Key) })
	if err != nil {
		t.Error(err)
	}
}

func TestNoErrorHoldsACredential(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	p.breaks(http.MethodPut, -1, func(w http.ResponseWriter, r *http.Request) {
		text(403, "application/xml", "<Error><Code>AccessDenied</Code><Message>"+r.Header.Get("Authorization")+" "+s3test.SecretKey+"</Message></Error>")(w, r)
	})
	err := s.Create(t.Context(), "key", blob.Bytes("x"))
	kindIs(t, err, errs.Denied)
	has(t, err, "[redacted]", "403", p.bucket+"/key")
	p.mends()
	const wrong = "a-wrong-secret-key"
	s3test.Credentials(t, s3test.AccessKey, wrong)
	_, wrongErr := s3.Open(t.Context(), p.config())
	kindIs(t, wrongErr, errs.Denied)
	s3test.Credentials(t, "", "")
	_, noneErr := s3.Open(t.Context(), p.config())
	kindIs(t, noneErr, errs.Denied)
	has(t, noneErr, "no S3 credentials are found")
	for _, e := range []error{err, wrongErr, noneErr} {
		for _, secret := range []string{s3test.AccessKey, s3test.SecretKey, wrong} {
			if e != nil && strings.Contains(e.Error(), secret) {
				t.Errorf("a credential is told: %v", e)
			}
		}
	}
}

func TestCredentialsOfAFileAreFound(t *testing.T) {
	p := newProxy(t)
	path := filepath.Join(t.TempDir(), "credentials")
	s3test.Credentials(t, "", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	lines := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s3test.AccessKey, s3test.SecretKey)
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, p.config())
}

func TestACertificateIsGoodOnlyIfItsAuthorityIsKnown(t *testing.T) {
	p := newProxy(t)
	secure := httptest.NewTLSServer(p)
	t.Cleanup(secure.Close)
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := p.config()
	c.Endpoint, c.CAFile = secure.URL, path
	s := open(t, c)
	create(t, s, "key", content(1<<20)) // signed over TLS too
	c.CAFile = ""
	refused(t, c, errs.Unavailable, "certificate")
	c.CAFile = path + ".none"
	refused(t, c, errs.Invalid, "ca_file")
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.CAFile = path
	refused(t, c, errs.Invalid, "no PEM certificate")
}

func TestWithoutRegionAndEndpointNothingIsTried(t *testing.T) {
	s3test.Credentials(t, "key-of-nobody", "secret-of-nobody")
	refused(t, s3.Config{Bucket: "bucket"}, errs.Invalid, "AWS_REGION")
	refused(t, s3.Config{Bucket: "B"}, errs.Invalid, "bucket must be")
}
