package s3

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// parameters are what may follow the ? of a URL, and where each goes.
var parameters = map[string]func(c *Config, value string) error{
	"endpoint":           func(c *Config, v string) error { c.Endpoint = strings.TrimSuffix(v, "/"); return nil },
	"region":             func(c *Config, v string) error { c.Region = v; return nil },
	"ca_file":            func(c *Config, v string) error { c.CAFile = v; return nil },
	"path_style":         func(c *Config, v string) error { return parseBool("path_style", v, &c.PathStyle) },
	"sse":                func(c *Config, v string) error { c.Encryption = v; return nil },
	"sse_kms_key":        func(c *Config, v string) error { c.EncryptionKey = v; return nil },
	"storage_class":      func(c *Config, v string) error { c.StorageClass = v; return nil },
	"lock":               func(c *Config, v string) error { c.LockMode = v; return nil },
	"delete_credentials": func(c *Config, v string) error { c.DeleteCredentials = v; return nil },
	"lock_days": func(c *Config, v string) (err error) {
		if c.LockDays, err = strconv.Atoi(v); err != nil || c.LockDays < 1 {
			return fmt.Errorf("S3 URL: lock_days must be a number of days: %w", errs.Invalid)
		}
		return nil
	},
}

func parseBool(name, value string, to *bool) error {
	if value != "true" && value != "false" {
		return fmt.Errorf("S3 URL: %s must be true or false: %w", name, errs.Invalid)
	}
	*to = value == "true"
	return nil
}

// ParseURL reads s3://BUCKET/PREFIX with the parameters that docs/OPERATIONS.md
// lists. What it does not know is errs.Invalid. Its errors do not repeat values:
// somebody may have put a credential there.
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
	for _, name := range slices.Sorted(maps.Keys(values)) {
		set, known := parameters[name]
		if !known {
			return Config{}, fmt.Errorf("S3 URL: unknown parameter %q, there are %s: %w", name, strings.Join(slices.Sorted(maps.Keys(parameters)), ", "), errs.Invalid)
		}
		if len(values[name]) != 1 {
			return Config{}, fmt.Errorf("S3 URL: %q is given %d times: %w", name, len(values[name]), errs.Invalid)
		}
		if err := set(&c, values[name][0]); err != nil {
			return Config{}, err
		}
	}
	return c, c.Validate()
}
