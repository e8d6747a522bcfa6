package blob

import (
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// MaxKeyLength is the greatest length of a key in bytes. The longest key of the
// format has 109; S3 allows 1,024.
const MaxKeyLength = 512

// MaxSegmentLength is the greatest length of one segment of a key in bytes. It
// leaves room in the 255 bytes of a file name on common file systems.
const MaxSegmentLength = 200

// CheckKey refuses, with errs.Invalid, what is not a key. Every driver calls it
// first, so that all accept the same keys and none can be led out of its place.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKeyLength {
		return fmt.Errorf("key of %d bytes: must have 1 to %d: %w", len(key), MaxKeyLength, errs.Invalid)
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !keyByte(key[i]) {
				return fmt.Errorf("key %q: byte %q is not of [a-z0-9._-]: %w", key, key[i], errs.Invalid)
			}
			continue
		}
		switch n := i - start; {
		case n == 0 || n > MaxSegmentLength:
			return fmt.Errorf("key %q: segment of %d bytes, must have 1 to %d: %w", key, n, MaxSegmentLength, errs.Invalid)
		case key[start] == '.':
			return fmt.Errorf("key %q: segment starts with a dot: %w", key, errs.Invalid)
		}
		start = i + 1
	}
	return nil
}

// CheckPrefix refuses, with errs.Invalid, what no key can start with. The empty
// prefix is that of all keys.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	// A prefix may end anywhere in a key: complete it to a key and judge that.
	if err := CheckKey(prefix + "x"); err != nil {
		return fmt.Errorf("prefix %q: %w", prefix, err)
	}
	return nil
}

// CheckRange refuses, with errs.Invalid, a range that is not within an object
// of the given size, and returns the range's length in bytes. A length of -1
// means to the end; the empty range at the end is within.
func CheckRange(key string, size, offset, length int64) (int64, error) {
	if offset < 0 || offset > size || length < -1 || length > size-offset {
		return 0, fmt.Errorf("object %s: %d bytes at %d of %d: %w", key, length, offset, size, errs.Invalid)
	}
	if length == -1 {
		length = size - offset
	}
	return length, nil
}

func keyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
