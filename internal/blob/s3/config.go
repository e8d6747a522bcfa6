package s3

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Config is a store's place, and how its objects are to be kept. It never holds a
// credential.
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
	// Encryption is what the service must encrypt new objects with: "AES256",
	// "aws:kms", or empty for whatever the bucket says.
	Encryption string
	// EncryptionKey names a key of the service's key store, for "aws:kms"; empty means
	// the bucket's or the account's own.
	EncryptionKey string
	// StorageClass of new objects; empty means the service's standard.
	StorageClass string
	// LockMode locks new objects: "governance", "compliance", or empty for not at all.
	LockMode string
	// LockDays is for how many days; the lock's length is that unless LockTime says less.
	LockDays int
	// LockTime, if it is set, says for how long an object of a key is locked, given
	// LockDays as time; 0 is not at all. It comes from who knows what the keys mean,
	// not from a URL.
	LockTime func(key string, most time.Duration) time.Duration
	// DeleteCredentials refers to the credentials that delete: "profile:NAME" of the
	// SDK's files, or "env:PREFIX" for PREFIX_ACCESS_KEY_ID, PREFIX_SECRET_ACCESS_KEY
	// and PREFIX_SESSION_TOKEN; empty means those that write.
	DeleteCredentials string
	// Stall ends an operation in which no byte moved for so long; 30 s by default.
	Stall time.Duration
}

// maxPrefix leaves room for blob.MaxKeyLength in the 1,024 bytes of S3.
const maxPrefix = 256

// maxLockDays is ten years: a slip of a digit must not bind for ever.
const maxLockDays = 3653

var (
	goodBucket  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	goodPrefix  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
	goodRegion  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	goodKey     = regexp.MustCompile(`^[A-Za-z0-9:/_.-]{1,512}$`)
	goodClass   = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,31}$`)
	goodDeleter = regexp.MustCompile(`^(profile:[A-Za-z0-9_./@+-]{1,64}|env:[A-Za-z_][A-Za-z0-9_]{0,63})$`)
)

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
	return c.validateKeeping()
}

// validateKeeping is about how objects are kept.
func (c Config) validateKeeping() error {
	switch {
	case c.Encryption != "" && c.Encryption != "AES256" && c.Encryption != "aws:kms":
		return fmt.Errorf("S3 URL: sse must be AES256 or aws:kms: %w", errs.Invalid)
	case c.EncryptionKey != "" && (c.Encryption != "aws:kms" || !goodKey.MatchString(c.EncryptionKey)):
		return fmt.Errorf("S3 URL: sse_kms_key is an id or ARN of a key, and needs sse=aws:kms: %w", errs.Invalid)
	case c.StorageClass != "" && !goodClass.MatchString(c.StorageClass):
		return fmt.Errorf("S3 URL: storage_class must be of [A-Z0-9_]: %w", errs.Invalid)
	case c.StorageClass == "GLACIER" || c.StorageClass == "DEEP_ARCHIVE":
		return fmt.Errorf("S3 URL: objects of storage_class %s cannot be read when they are needed: %w", c.StorageClass, errs.Invalid)
	case c.LockMode != "" && c.LockMode != Governance && c.LockMode != Compliance:
		return fmt.Errorf("S3 URL: lock must be %s or %s: %w", Governance, Compliance, errs.Invalid)
	case (c.LockMode != "") != (c.LockDays != 0) || c.LockDays < 0 || c.LockDays > maxLockDays:
		return fmt.Errorf("S3 URL: lock and lock_days, 1 to %d, go together: %w", maxLockDays, errs.Invalid)
	case c.DeleteCredentials != "" && !goodDeleter.MatchString(c.DeleteCredentials):
		return fmt.Errorf("S3 URL: delete_credentials must be profile:NAME or env:PREFIX: %w", errs.Invalid)
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
