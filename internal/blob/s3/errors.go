package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// answer is what a store said in refusing.
type answer struct {
	status  int // 0 when none came
	code    string
	message string
}

func answerOf(err error) answer {
	var a answer
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		a.status = r.HTTPStatusCode()
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		a.code, a.message = e.ErrorCode(), e.ErrorMessage()
	}
	return a
}

// noObject tells whether the answer is that there is no such object. Another 404
// means that the bucket, or the whole service, is not what is asked.
func (a answer) noObject() bool {
	return a.status == http.StatusNotFound && a.code == "NoSuchKey"
}

// kinds of the codes whose status does not tell enough.
var kinds = map[string]*errs.Kind{
	"NoSuchBucket":                errs.Unavailable, // like a disk that is not mounted
	"RequestTimeout":              errs.Unavailable, // a 400
	"BadDigest":                   errs.Unavailable, // damaged on the way: send it again
	"XAmzContentSHA256Mismatch":   errs.Unavailable,
	"XAmzContentChecksumMismatch": errs.Unavailable,
	"IncompleteBody":              errs.Unavailable,
	"TemporaryRedirect":           errs.Unavailable,
	"SlowDown":                    errs.Unavailable,
	"ExpiredToken":                errs.Denied, // a 400
	"InvalidToken":                errs.Denied,
	"TokenRefreshRequired":        errs.Denied,
	"NotImplemented":              errs.Unsupported,
}

// kind says what a caller may do. What is not known may pass.
func (a answer) kind() *errs.Kind {
	if strings.Contains(a.code, "Quota") || strings.Contains(a.code, "StorageFull") || a.status == http.StatusInsufficientStorage {
		return errs.Exhausted // clones say so with 400, 403 and 507
	}
	if k, ok := kinds[a.code]; ok {
		return k
	}
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return errs.Denied
	case http.StatusNotImplemented:
		return errs.Unsupported
	case http.StatusConflict, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		// A conflict is of two requests at once; a 404 here is not of the object.
		return errs.Unavailable
	}
	if a.status >= 300 && a.status < 500 {
		return errs.Invalid // among them another region's 301
	}
	return errs.Unavailable
}

// shortestSecret: what is shorter would be found in any word.
const shortestSecret = 6

// maxMessage bounds the text taken over from a store.
const maxMessage = 300

// judge gives an error of an operation under w its kind. Whatever the store or the
// SDK says, the text holds no credential.
func (s *Store) judge(ctx context.Context, w *watch, err error) error {
	if ended := blob.Canceled(ctx); ended != nil {
		return ended
	}
	if cause := context.Cause(w.ctx); cause != nil && errors.Is(cause, errs.Unavailable) {
		return cause
	}
	a := answerOf(err)
	text := ""
	switch {
	case a.status != 0 && a.code != "":
		text = fmt.Sprintf("the store says %d %s: %s", a.status, a.code, a.message)
	case a.status >= 300:
		text = fmt.Sprintf("the store says %d %s", a.status, http.StatusText(a.status))
	case a.status != 0:
		text = "the store's answer does not read: " + err.Error()
	default:
		text = innermost(err).Error()
	}
	return fmt.Errorf("%s: %w", s.redact(text), a.kind())
}

// innermost leaves out what the SDK and net/http wrap around a broken connection.
func innermost(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		return e.Err
	}
	return err
}

// redact takes the credentials out of a text, in case that a server echoes a
// request, and makes one short line of it.
func (s *Store) redact(text string) string {
	for _, secret := range append(s.credentials.secrets(), s.deleting.secrets()...) {
		if len(secret) >= shortestSecret {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
