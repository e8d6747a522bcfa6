package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// operations are every call of a store, as errors.
var operations = map[string]func(ctx context.Context, s blob.Store) error{
	http.MethodPut:  func(ctx context.Context, s blob.Store) error { return s.Create(ctx, "new/key", blob.Bytes("bytes")) },
	http.MethodHead: func(ctx context.Context, s blob.Store) error { _, err := s.Stat(ctx, "old/key"); return err },
	http.MethodGet: func(ctx context.Context, s blob.Store) error {
		_, err := blob.ReadRange(ctx, s, "old/key", 2, 3)
		return err
	},
	"list": func(ctx context.Context, s blob.Store) error {
		return s.List(ctx, "old/", "", func(blob.Info) error { return nil })
	},
	http.MethodDelete: func(ctx context.Context, s blob.Store) error { return s.Delete(ctx, "old/key") },
}

// method is the request that an operation makes.
func method(operation string) string {
	if operation == "list" {
		return http.MethodGet
	}
	return operation
}

func create(t *testing.T, s blob.Store, key string, body blob.Body) {
	t.Helper()
	if err := s.Create(t.Context(), key, body); err != nil {
		t.Fatal(err)
	}
}

func kindIs(t *testing.T, err error, want *errs.Kind) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func retrying(s blob.Store) blob.Store {
	return blob.Retry(s, blob.RetryOptions{Wait: time.Millisecond})
}

func TestEachAnswerOfTheStoreHasItsKind(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	create(t, s, "old/key", blob.Bytes("something"))
	for _, c := range []struct {
		status int
		code   string
		want   *errs.Kind
	}{
		{409, "ConditionalRequestConflict", errs.Unavailable}, {409, "OperationAborted", errs.Unavailable},
		{500, "InternalError", errs.Unavailable}, {503, "SlowDown", errs.Unavailable}, {503, "ServiceUnavailable", errs.Unavailable},
		{429, "TooManyRequests", errs.Unavailable}, {408, "RequestTimeout", errs.Unavailable}, {502, "", errs.Unavailable}, {504, "", errs.Unavailable},
		{403, "AccessDenied", errs.Denied}, {401, "Unauthorized", errs.Denied}, {403, "SignatureDoesNotMatch", errs.Denied}, {403, "RequestTimeTooSkewed", errs.Denied},
		{507, "XMinioStorageFull", errs.Exhausted}, {301, "PermanentRedirect", errs.Invalid}, {501, "NotImplemented", errs.Unsupported},
	} {
		for operation, call := range operations {
			t.Run(fmt.Sprintf("%s %d %s", operation, c.status, c.code), func(t *testing.T) {
				defer p.mends()
				p.breaks(method(operation), -1, says(c.status, c.code))
				err := call(t.Context(), s)
				kindIs(t, err, c.want)
				has(t, err, p.bucket+"/")
			})
		}
	}
}

func TestAnswersThatTellMoreByTheirCode(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	create(t, s, "old/key", blob.Bytes("something"))
	for _, c := range []struct {
		operation string
		status    int
		code      string
		want      *errs.Kind
	}{
		{http.MethodPut, 412, "PreconditionFailed", errs.Exists},
		{http.MethodPut, 403, "QuotaExceeded", errs.Exhausted}, {http.MethodPut, 400, "XMinioAdminBucketQuotaExceeded", errs.Exhausted},
		{http.MethodPut, 400, "RequestTimeout", errs.Unavailable}, {http.MethodPut, 400, "BadDigest", errs.Unavailable},
		{http.MethodPut, 400, "InvalidRequest", errs.Invalid}, {http.MethodPut, 400, "ExpiredToken", errs.Denied},
		{http.MethodPut, 404, "NoSuchBucket", errs.Unavailable}, {http.MethodGet, 404, "NoSuchBucket", errs.Unavailable},
		{http.MethodGet, 404, "NoSuchKey", errs.NotFound}, {"list", 404, "NoSuchBucket", errs.Unavailable}, {http.MethodDelete, 404, "NoSuchBucket", errs.Unavailable},
	} {
		t.Run(fmt.Sprintf("%s %d %s", c.operation, c.status, c.code), func(t *testing.T) {
			defer p.mends()
			p.breaks(method(c.operation), -1, says(c.status, c.code))
			kindIs(t, operations[c.operation](t.Context(), s), c.want)
		})
	}
	t.Run("a missing object of a bucket that may not be listed", func(t *testing.T) {
		defer p.mends()
		p.breaks(http.MethodHead, 1, says(404, "NoSuchKey"))
		p.breaks(http.MethodHead, 1, says(403, "AccessDenied"))
		kindIs(t, operations[http.MethodHead](t.Context(), s), errs.NotFound)
	})
	t.Run("deleting what is not there", func(t *testing.T) {
		defer p.mends()
		p.breaks(http.MethodDelete, -1, says(404, "NoSuchKey"))
		if err := s.Delete(t.Context(), "old/key"); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswersThatAreNoneAreUnavailable(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	create(t, s, "old/key", blob.Bytes("something"))
	for name, answer := range map[string]http.HandlerFunc{
		"200 with an error":    says(200, "InternalError"),
		"200 with nothing":     text(200, "application/xml", ""),
		"200 with a web page":  text(200, "text/html", "<html><body>Sign in<br></body></html>"),
		"404 of another host":  text(404, "text/html", "no such site"), // to HEAD too: its bucket is not there either
		"no answer":            cuts,
		"200 with half a list": text(200, "application/xml", "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>old/k"),
	} {
		for operation, call := range operations {
			if operation == http.MethodDelete && !strings.HasPrefix(name, "4") && !strings.HasPrefix(name, "no") {
				continue // a 2xx is all there is to the answer to a DELETE
			}
			t.Run(operation+" "+name, func(t *testing.T) {
				defer p.mends()
				p.breaks(method(operation), -1, answer)
				kindIs(t, call(t.Context(), s), errs.Unavailable)
			})
		}
	}
}

func TestAStoreThatHangsIsGivenUp(t *testing.T) {
	p := newProxy(t)
	s := p.impatient(t)
	create(t, s, "old/key", blob.Bytes("something"))
	for operation, call := range operations {
		t.Run(operation, func(t *testing.T) {
			defer p.mends()
			p.breaks(method(operation), -1, p.hangs)
			err := call(t.Context(), s)
			kindIs(t, err, errs.Unavailable)
			has(t, err, "nothing moved")
		})
	}
	t.Run("in the middle of a body that it takes", func(t *testing.T) {
		defer p.mends()
		p.breaks(http.MethodPut, -1, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			p.hangs(w, r)
		})
		err := s.Create(t.Context(), "large", blob.Bytes(make([]byte, 64<<20)))
		kindIs(t, err, errs.Unavailable)
		has(t, err, "nothing moved")
	})
	t.Run("in the middle of a body that it gives", func(t *testing.T) {
		defer p.mends()
		p.breaks(http.MethodGet, -1, p.stops(3, p.hangs))
		_, err := blob.ReadRange(t.Context(), s, "old/key", 0, 9)
		kindIs(t, err, errs.Unavailable)
		has(t, err, "nothing moved", "6 bytes before the end")
	})
	t.Run("until its caller has enough", func(t *testing.T) {
		defer p.mends()
		cause := errors.New("lease lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		p.breaks(http.MethodPut, -1, func(w http.ResponseWriter, r *http.Request) { cancel(cause); p.hangs(w, r) })
		err := s.Create(ctx, "new/key", blob.Bytes("x"))
		if !errors.Is(err, cause) || errs.KindOf(err) != errs.Canceled {
			t.Errorf("got %v", err)
		}
	})
}

func TestAConflictIsTriedAgainAndThrottlingIsWaitedOut(t *testing.T) {
	p := newProxy(t)
	raw := p.store(t)
	create(t, raw, "old/key", blob.Bytes("something"))
	for operation, call := range operations {
		p.breaks(method(operation), -1, says(503, "SlowDown"))
		before := len(p.requests(method(operation)))
		kindIs(t, call(t.Context(), raw), errs.Unavailable)
		if n := len(p.requests(method(operation))) - before; n != 1 {
			t.Errorf("%s: %d requests in one call, want 1: the SDK must not retry", operation, n)
		}
		p.mends()
	}
	s := retrying(raw)
	p.breaks(http.MethodPut, 2, says(409, "ConditionalRequestConflict"))
	p.breaks(http.MethodPut, 1, says(503, "SlowDown"))
	create(t, s, "a", blob.Bytes("bytes"))
	kindIs(t, s.Create(t.Context(), "a", blob.Bytes("other")), errs.Exists)
}

func TestALostAnswerIsReadBack(t *testing.T) {
	p := newProxy(t)
	s := retrying(p.store(t))
	p.breaks(http.MethodPut, 1, p.loses)
	create(t, s, "mine", blob.Bytes("bytes"))
	p.mends()
	// The same, and somebody else was first.
	create(t, s, "others", blob.Bytes("other bytes"))
	p.breaks(http.MethodPut, 1, p.loses)
	kindIs(t, s.Create(t.Context(), "others", blob.Bytes("bytes")), errs.Exists)
	p.mends()
	// And a success that was none.
	p.breaks(http.MethodPut, 1, says(200, "InternalError"))
	create(t, s, "late", blob.Bytes("bytes"))
	for key, want := range map[string]string{"mine": "bytes", "others": "other bytes", "late": "bytes"} {
		got, err := blob.ReadAll(t.Context(), s, key, 100)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	p.breaks(http.MethodDelete, 1, p.loses)
	if err := s.Delete(t.Context(), "mine"); err != nil {
		t.Error(err)
	}
}

// content differs from place to place.
func content(n int) blob.Bytes {
	b := make(blob.Bytes, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestAReadThatIsCutGoesOnWhereItBroke(t *testing.T) {
	p := newProxy(t)
	raw := p.store(t)
	want := content(3 << 20)
	create(t, raw, "object", want)
	p.breaks(http.MethodGet, 1, p.stops(1<<20, cuts))
	_, err := blob.ReadRange(t.Context(), raw, "object", 0, int64(len(want)))
	kindIs(t, err, errs.Unavailable)

	p.breaks(http.MethodGet, 2, p.stops(1<<20, cuts))
	p.breaks(http.MethodGet, 1, p.stops(1000, cuts))
	got, err := blob.ReadRange(t.Context(), retrying(raw), "object", 5, int64(len(want))-5)
	if err != nil || !bytes.Equal(got, want[5:]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	all := p.requests(http.MethodGet)
	if len(all) != 5 {
		t.Fatalf("%d reads, want 5", len(all))
	}
	for i, r := range all[2:] {
		if from := r.Header.Get("Range"); from == all[1].Header.Get("Range") {
			t.Errorf("read %d starts at the beginning again: %s", i+2, from)
		}
	}
}

// TestAReadThatHangsGoesOnWhereItStopped has every read from the beginning hang.
// One whose first bytes a busy machine does not bring before its time begins again
// there: none but one that goes on elsewhere comes to the end.
func TestAReadThatHangsGoesOnWhereItStopped(t *testing.T) {
	p := newProxy(t)
	raw := p.impatient(t)
	want := content(300_000)
	create(t, raw, "object", want)
	const beginning = "bytes=5-299999"
	hang := p.stops(1000, p.hangs)
	p.breaks(http.MethodGet, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == beginning {
			hang(w, r)
			return
		}
		p.forward.ServeHTTP(w, r)
	})
	got, err := blob.ReadRange(t.Context(), blob.Retry(raw, blob.RetryOptions{Attempts: 100, Wait: time.Millisecond}), "object", 5, int64(len(want))-5)
	if err != nil || !bytes.Equal(got, want[5:]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if first := p.requests(http.MethodGet)[0].Header.Get("Range"); first != beginning {
		t.Errorf("the first read was of %s: nothing has hung", first)
	}
}

func TestAWriteThatIsCutIsMadeAgainFromItsSource(t *testing.T) {
	p := newProxy(t)
	s := retrying(p.store(t))
	path := t.TempDir() + "/pack"
	want := content(8 << 20)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	p.breaks(http.MethodPut, 2, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		cuts(w, r)
	})
	create(t, s, "pack", blob.File(path))
	if equal, err := blob.Equal(t.Context(), s, "pack", want); !equal || err != nil {
		t.Errorf("equal %v, %v", equal, err)
	}
}

// flipping changes one byte of a body on its way.
type flipping struct {
	io.ReadCloser
	done bool
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 && !f.done {
		f.done = true
		p[0] ^= 1
	}
	return n, err
}

func TestDamageOnTheWayIsNoticedByTheStore(t *testing.T) {
	p := newProxy(t)
	raw := p.store(t)
	flip := func(w http.ResponseWriter, r *http.Request) {
		r.Body = &flipping{ReadCloser: r.Body}
		p.forward.ServeHTTP(w, r)
	}
	p.breaks(http.MethodPut, 1, flip)
	kindIs(t, raw.Create(t.Context(), "object", blob.Bytes("bytes")), errs.Unavailable)
	_, err := raw.Stat(t.Context(), "object")
	kindIs(t, err, errs.NotFound)
	p.breaks(http.MethodPut, 1, flip)
	create(t, retrying(raw), "object", blob.Bytes("bytes"))
	put := p.requests(http.MethodPut)[0]
	if put.Header.Get("If-None-Match") != "*" || put.Header.Get("X-Amz-Checksum-Sha256") == "" || len(put.Header.Get("X-Amz-Content-Sha256")) != 64 || put.ContentLength != 5 {
		t.Errorf("headers of the put: %v", put.Header)
	}
}

func TestListsThatLieAreNotBelieved(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	list := func(truncated bool, token string, keys ...string) http.HandlerFunc {
		b := &strings.Builder{}
		fmt.Fprintf(b, "<ListBucketResult><IsTruncated>%v</IsTruncated>", truncated)
		if token != "" {
			fmt.Fprintf(b, "<NextContinuationToken>%s</NextContinuationToken>", token)
		}
		for _, k := range keys {
			fmt.Fprintf(b, "<Contents><Key>%s</Key><Size>1</Size></Contents>", k)
		}
		return text(200, "application/xml", b.String()+"</ListBucketResult>")
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   *errs.Kind
		got    string
	}{
		"out of order":              {list(false, "", "a/b", "a/d", "a/c"), errs.Corrupt, "a/b a/d"},
		"twice":                     {list(false, "", "a/b", "a/b"), errs.Corrupt, "a/b"},
		"of another prefix":         {list(false, "", "a/b", "b/b"), errs.Corrupt, "a/b"},
		"goes on without a place":   {list(true, "", "a/b"), errs.Unavailable, ""},
		"goes on at the same place": {list(true, "same", "a/b"), errs.Unavailable, "a/b"},
		"what is no key":            {list(false, "", "a/", "a/.hidden", "a/B", "a/b"), nil, "a/b"},
		"what was not asked for":    {list(false, "", "a/0", "a/00", "a/b"), nil, "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			defer p.mends()
			p.breaks(http.MethodGet, -1, c.answer)
			var got []string
			err := s.List(t.Context(), "a/", "a/00", func(i blob.Info) error { got = append(got, i.Key); return nil })
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if text := strings.Join(got, " "); text != c.got {
				t.Errorf("got %q, want %q", text, c.got)
			}
		})
	}
}

func TestAListOfManyPagesIsWhole(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	const n = 2100
	for i := range n {
		// As the server keeps them: a put each would take long.
		if err := os.WriteFile(p.real.Folder(p.bucket)+fmt.Sprintf("/object-%05d", i), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []int{-1, 0, 1049, n - 1} {
		i := from + 1
		err := s.List(t.Context(), "object-", fmt.Sprintf("object-%05d", from), func(info blob.Info) error {
			if want := fmt.Sprintf("object-%05d", i); info.Key != want || info.Size != 1 {
				return fmt.Errorf("%s of %d bytes, want %s of 1", info.Key, info.Size, want)
			}
			i++
			return nil
		})
		if err != nil || i != n {
			t.Errorf("after %d: ended at %d, %v", from, i, err)
		}
	}
}

func TestABucketThatIsGoneIsNotAnEmptyStore(t *testing.T) {
	p := newProxy(t)
	s := p.store(t)
	create(t, s, "old/key", blob.Bytes("something"))
	if err := os.RemoveAll(p.real.Folder(p.bucket)); err != nil {
		t.Fatal(err)
	}
	for operation, call := range operations {
		t.Run(operation, func(t *testing.T) { kindIs(t, call(t.Context(), s), errs.Unavailable) })
	}
	_, err := s3.Open(t.Context(), p.config())
	kindIs(t, err, errs.NotFound)
}
