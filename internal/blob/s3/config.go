package s3

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Config is a store's place. It never holds a credential.
type Config struct {
	// Bucket must exist.
	Bucket string
	// Prefix comes before every key, with a "/" between; empty for the whole bucket.
	Prefix string
	// Endpoint is http(s)://HOST[:PORT]; empty means Amazon's of the region.
	Endpoint string
	// Region; empty means that of the environment or the SDK's files, or us-east-1
	// when an endpoint is named.
	Region string
	// PathStyle puts the bucket into the path and not into the host name.
	PathStyle bool
	// CAFile has the PEM certificates that the endpoint's must descend from; empty
	// means the system's.
	CAFile string
	// Stall ends an operation in which no byte moved for so long; 30 s by default.
	Stall time.Duration
}

// maxPrefix leaves room for blob.MaxKeyLength in the 1,024 bytes of S3.
const maxPrefix = 256

var (
	goodBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	goodPrefix = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
	goodRegion = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// ParseURL reads s3://BUCKET/PREFIX with the parameters endpoint, region,
// path_style and ca_file. What it does not know is errs.Invalid. Its errors do
// not repeat values: somebody may have put a credential there.
func ParseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" {
		return Config{}, fmt.Errorf("S3 URL: must be s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path_style=true&ca_file=PATH: %w", errs.Invalid)
	}
	if u.User != nil {
		return Config{}, fmt.Errorf("S3 URL: credentials are no part of a URL, they come from the environment or a file: %w", errs.Invalid)
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, fmt.Errorf("S3 URL: the part after ? does not read: %w", errs.Invalid)
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	for name, all := range values {
		if len(all) != 1 {
			return Config{}, fmt.Errorf("S3 URL: %q is given %d times: %w", name, len(all), errs.Invalid)
		}
		switch value := all[0]; name {
		case "endpoint":
			c.Endpoint = strings.TrimSuffix(value, "/")
		case "region":
			c.Region = value
		case "ca_file":
			c.CAFile = value
		case "path_style":
			if value != "true" && value != "false" {
				return Config{}, fmt.Errorf("S3 URL: path_style must be true or false: %w", errs.Invalid)
			}
			c.PathStyle = value == "true"
		default:
			return Config{}, fmt.Errorf("S3 URL: unknown parameter %q, there are endpoint, region, path_style and ca_file: %w", name, errs.Invalid)
		}
	}
	return c, c.Validate()
}

// Validate tells what cannot be, with errs.Invalid.
func (c Config) Validate() error {
	switch {
	case !goodBucket.MatchString(c.Bucket):
		return fmt.Errorf("S3 URL: bucket must be 3 to 63 of [a-z0-9.-]: %w", errs.Invalid)
	case c.Prefix != "" && (len(c.Prefix) > maxPrefix || !goodPrefix.MatchString(c.Prefix)):
		return fmt.Errorf("S3 URL: prefix must be at most %d bytes in segments of [A-Za-z0-9._-] that start with no dot: %w", maxPrefix, errs.Invalid)
	case c.Region != "" && !goodRegion.MatchString(c.Region):
		return fmt.Errorf("S3 URL: region must be of [A-Za-z0-9-]: %w", errs.Invalid)
	case c.CAFile != "" && !filepath.IsAbs(c.CAFile):
		return fmt.Errorf("S3 URL: ca_file must be an absolute path: %w", errs.Invalid)
	case c.Endpoint != "" && !goodEndpoint(c.Endpoint):
		return fmt.Errorf("S3 URL: endpoint must be http(s)://HOST[:PORT] and nothing more: %w", errs.Invalid)
	}
	return nil
}

func goodEndpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == ""
}

// location names the store for people.
func (c Config) location() string {
	text := "s3://" + c.Bucket
	if c.Prefix != "" {
		text += "/" + c.Prefix
	}
	if c.Endpoint != "" {
		text += " at " + c.Endpoint
	}
	return text
}

// prefix is what comes before a key.
func (c Config) prefix() string {
	if c.Prefix == "" {
		return ""
	}
	return c.Prefix + "/"
}

// The longest name of an object must fit: a key of blob.MaxKeyLength below the
// longest prefix.
const _ = uint(1024 - maxPrefix - 1 - blob.MaxKeyLength)
