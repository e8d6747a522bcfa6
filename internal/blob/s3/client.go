package s3

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	// dialTime bounds the making of a connection, and once more its TLS handshake.
	dialTime = 10 * time.Second
	// idleConns keeps as many connections as the controller has calls at once.
	idleConns = 64
	// idleTime is below what load balancers commonly allow.
	idleTime = 50 * time.Second
	// maxHeaders bounds the headers of an answer.
	maxHeaders = 256 << 10
	// maxAnswer bounds an answer that is no object: a page of 1,000 keys has at most
	// some 2 MiB, an error a few hundred bytes.
	maxAnswer = 8 << 20
	// maxCAFile bounds a file of certificates.
	maxCAFile = 1 << 20
)

// connect makes the client. The SDK's chain finds region and credentials; its
// retries are off.
func (s *Store) connect(ctx context.Context, c Config) error {
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return fmt.Errorf("read the S3 settings of environment and files: %s: %w", err.Error(), errs.Invalid)
	}
	switch {
	case cfg.Region != "":
	case c.Endpoint != "":
		cfg.Region = "us-east-1" // what servers other than Amazon's take for their own
	default:
		return fmt.Errorf("no region is named, by region= or AWS_REGION: %w", errs.Invalid)
	}
	s.credentials = &remembered{CredentialsProvider: cfg.Credentials}
	cfg.Credentials = s.credentials
	if s.transport, err = newTransport(cfg.HTTPClient, c.CAFile); err != nil {
		return err
	}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		o.UsePathStyle = c.PathStyle
		o.Retryer = aws.NopRetryer{}
		o.RetryMaxAttempts = 1
		o.HTTPClient = &http.Client{Transport: &bounded{s.transport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		// Checksums are our own: the SDK's come behind the body, which clones refuse,
		// and on reading they cover whole objects only.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return nil
}

// newTransport makes connections of our own: HTTP/1.1, so that one that hangs
// holds up one operation. Without a CA file the system's certificates count, or
// those of AWS_CA_BUNDLE, which base carries.
func newTransport(base aws.HTTPClient, caFile string) (*http.Transport, error) {
	buildable, ok := base.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	t := buildable.GetTransport()
	t.DialContext = (&net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}).DialContext
	t.TLSHandshakeTimeout = dialTime
	t.ForceAttemptHTTP2 = false
	t.DisableCompression = true // lengths are those of the object
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.IdleConnTimeout = idleConns, idleConns, idleTime
	t.MaxResponseHeaderBytes = maxHeaders
	if caFile == "" {
		return t, nil
	}
	pool, err := readPool(caFile)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

func readPool(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w: %w", err, errs.Invalid)
	}
	defer func() { _ = f.Close() }() // only read
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w: %w", err, errs.Invalid)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca_file %s: it holds no PEM certificate: %w", path, errs.Invalid)
	}
	return pool, nil
}

// bounded cuts answers that are no objects where no good one can be longer: the
// SDK reads errors and lists whole.
type bounded struct{ next http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	object := answer.StatusCode < 300 && r.Method == http.MethodGet && !r.URL.Query().Has("list-type")
	if !object && answer.Body != nil {
		answer.Body = &limitedBody{Reader: io.LimitReader(answer.Body, maxAnswer), Closer: answer.Body}
	}
	return answer, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// remembered keeps the credentials used last, to take them out of texts. The SDK
// keeps them in memory all the same.
type remembered struct {
	aws.CredentialsProvider
	last atomic.Pointer[aws.Credentials]
}

// Retrieve gives the credentials in force.
func (r *remembered) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := r.CredentialsProvider.Retrieve(ctx)
	if err == nil {
		r.last.Store(&c)
	}
	return c, err
}

// secrets are what no text may hold.
func (r *remembered) secrets() []string {
	if c := r.last.Load(); c != nil {
		return []string{c.SecretAccessKey, c.SessionToken, c.AccessKeyID}
	}
	return nil
}
