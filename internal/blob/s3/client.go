package s3

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
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

// connect makes the clients: one that reads and writes, and one that deletes. The
// SDK's chain finds region and credentials; its retries are off.
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
	if s.transport, err = newTransport(cfg.HTTPClient, c.CAFile); err != nil {
		return err
	}
	s.client = s.newClient(cfg, c, s.credentials)
	s.deleter = s.client
	if c.DeleteCredentials != "" {
		found, err := deleteCredentials(ctx, c.DeleteCredentials)
		if err != nil {
			return err
		}
		s.deleting = &remembered{CredentialsProvider: found}
		s.deleter = s.newClient(cfg, c, s.deleting)
	}
	return nil
}

func (s *Store) newClient(cfg aws.Config, c Config, by aws.CredentialsProvider) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Credentials = by
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		o.UsePathStyle = c.PathStyle
		o.Retryer = aws.NopRetryer{}
		o.RetryMaxAttempts = 1
		o.HTTPClient = &http.Client{Transport: &bounded{s.transport, &s.clock}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		// Checksums are our own: the SDK's come behind the body, which clones refuse,
		// and on reading they cover whole objects only.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

// deleteCredentials finds what Config.DeleteCredentials refers to.
func deleteCredentials(ctx context.Context, reference string) (aws.CredentialsProvider, error) {
	if profile, ok := strings.CutPrefix(reference, "profile:"); ok {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}), config.WithSharedConfigProfile(profile))
		if err != nil {
			return nil, fmt.Errorf("read the credentials that delete, profile %s of the SDK's files: %s: %w", profile, err.Error(), errs.Invalid)
		}
		return cfg.Credentials, nil
	}
	prefix := strings.TrimPrefix(reference, "env:")
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := aws.Credentials{AccessKeyID: os.Getenv(prefix + "_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv(prefix + "_SECRET_ACCESS_KEY"),
			SessionToken: os.Getenv(prefix + "_SESSION_TOKEN"), Source: "environment"}
		if c.AccessKeyID == "" || c.SecretAccessKey == "" {
			return aws.Credentials{}, fmt.Errorf("%s_ACCESS_KEY_ID and %s_SECRET_ACCESS_KEY are not set: %w", prefix, prefix, errs.Denied)
		}
		return c, nil
	}), nil
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
// SDK reads errors and lists whole. It notes the service's time.
type bounded struct {
	next  http.RoundTripper
	clock *clock
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b.clock.heard(answer.Header)
	object := answer.StatusCode < 300 && r.Method == http.MethodGet && isObject(r.URL.Query())
	if !object && answer.Body != nil {
		answer.Body = &limitedBody{Reader: io.LimitReader(answer.Body, maxAnswer), Closer: answer.Body}
	}
	return answer, nil
}

// isObject tells the reading of an object from that of a list or a setting.
func isObject(query url.Values) bool {
	for _, list := range []string{"list-type", "versions", "versioning", "object-lock", "retention", "legal-hold"} {
		if query.Has(list) {
			return false
		}
	}
	return true
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
	if r == nil {
		return nil
	}
	if c := r.last.Load(); c != nil {
		return []string{c.SecretAccessKey, c.SessionToken, c.AccessKeyID}
	}
	return nil
}
