package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
)

// proxy stands before a real S3 server and breaks what it is told to.
type proxy struct {
	*httptest.Server
	real   *s3test.Server
	bucket string
	// released is closed when the test ends: what hangs stops then.
	released chan struct{}
	forward  http.Handler
	// answer, if it is set, changes the headers of answers.
	answer func(r *http.Request, h http.Header)
	// foreign is an access key that the server does not know: what it signed is
	// signed anew on the way.
	foreign string

	mu     sync.Mutex
	faults []*fault
	seen   []*http.Request
}

type fault struct {
	method string
	times  int
	handle http.HandlerFunc
}

// stall is short, so that hanging is noticed soon, and longer than a server
// takes that works on a busy machine.
const stall = time.Second

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := newProxyOf(t, s3test.Start(t))
	p.bucket = p.real.Bucket(t)
	return p
}

// newProxyOf stands before a server, without a bucket.
func newProxyOf(t *testing.T, server *s3test.Server) *proxy {
	t.Helper()
	p := &proxy{real: server, released: make(chan struct{})}
	target, err := url.Parse(p.real.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	p.forward = &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
		if p.foreign != "" && signer(r.In) == p.foreign {
			resign(t, r.Out)
		}
	}, ModifyResponse: func(r *http.Response) error {
		if p.answer != nil {
			p.answer(r.Request, r.Header)
		}
		return nil
	}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.released)
		p.CloseClientConnections()
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// store is a store behind the proxy, opened while nothing is broken.
func (p *proxy) store(t *testing.T) *s3.Store {
	t.Helper()
	return p.opened(t, p.config())
}

// impatient is a store that gives up what hangs after stall.
func (p *proxy) impatient(t *testing.T) *s3.Store {
	t.Helper()
	c := p.config()
	c.Stall = stall
	return p.opened(t, c)
}

func (p *proxy) opened(t *testing.T, c s3.Config) *s3.Store {
	t.Helper()
	s := open(t, c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = nil
	return s
}

func (p *proxy) config() s3.Config {
	return s3.Config{Bucket: p.bucket, Endpoint: p.URL, PathStyle: true}
}

// breaks has the next requests of a method answered by handle; times -1 is all.
func (p *proxy) breaks(method string, times int, handle http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &fault{method, times, handle})
}

// mends takes back all faults.
func (p *proxy) mends() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// signer gives the access key that a request is signed with.
func signer(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(rest, "/")
	return key
}

// resign signs a request with the key that the server knows.
func resign(t *testing.T, r *http.Request) {
	r.Header.Del("Authorization")
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(r.Context(),
		aws.Credentials{AccessKeyID: s3test.AccessKey, SecretAccessKey: s3test.SecretKey}, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now())
	if err != nil {
		t.Error(err)
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.handler(r)(w, r)
}

func (p *proxy) handler(r *http.Request) http.HandlerFunc {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r)
	for _, f := range p.faults {
		if f.method == r.Method && f.times != 0 {
			f.times--
			return f.handle
		}
	}
	return p.forward.ServeHTTP
}

// requests gives what came, of one method, since the store was opened.
func (p *proxy) requests(method string) (all []*http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		if r.Method == method {
			all = append(all, r)
		}
	}
	return all
}

// says answers with an error as S3 does, with no body to a HEAD.
func says(status int, code string) http.HandlerFunc {
	return text(status, "application/xml", fmt.Sprintf("<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>words of the store</Message></Error>", code))
}

func text(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangs answers nothing until the test ends.
func (p *proxy) hangs(http.ResponseWriter, *http.Request) { <-p.released }

// cuts ends the connection without an answer.
func cuts(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// loses does what was asked and ends the connection before the answer.
func (p *proxy) loses(_ http.ResponseWriter, r *http.Request) {
	p.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// stops answers a read as the server does, gives n bytes and then does what end does.
func (p *proxy) stops(n int, end http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		real := httptest.NewRecorder()
		p.forward.ServeHTTP(real, r)
		for name, values := range real.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(real.Code)
		_, _ = w.Write(real.Body.Bytes()[:min(n, real.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		end(w, r)
	}
}

func has(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, which does not say %q", err, w)
		}
	}
}
