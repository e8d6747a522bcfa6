package s3_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/s3"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestVersionsAreKept(t *testing.T) {
	server := s3test.StartVersioned(t)
	blobtest.RunVersioned(t, func(t *testing.T) (blob.Store, blobtest.Attacker) {
		bucket := server.VersionedBucket(t)
		s := open(t, config(t, server.URL(bucket, "p")))
		s.SmallPages()
		return retrying(blob.Limit(s, 4)), s3test.NewAttacker(server.Endpoint, bucket, "p/")
	})
}

// locked is a store behind a proxy whose objects are locked for as long as
// lockTime says, 30 days by default.
func locked(t *testing.T, mode string, lockTime func(string, time.Duration) time.Duration) (*proxy, *s3.Store) {
	t.Helper()
	p := newProxyOf(t, s3test.StartVersioned(t))
	p.bucket = p.real.VersionedBucket(t)
	c := p.config()
	c.LockMode, c.LockDays, c.LockTime = mode, 30, lockTime
	return p, p.opened(t, c)
}

func end(t *testing.T, r *http.Request) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		t.Fatalf("%v: headers %v", err, r.Header)
	}
	return at
}

func TestNewObjectsAreLockedAndALockIsExtended(t *testing.T) {
	for _, mode := range []string{s3.Governance, s3.Compliance} {
		t.Run(mode, func(t *testing.T) {
			days := map[string]int{"short": 2, "open": 0}
			p, s := locked(t, mode, func(key string, most time.Duration) time.Duration {
				if n, ok := days[key]; ok {
					return time.Duration(n) * 24 * time.Hour
				}
				return most + time.Hour // more than may be
			})
			if f := s.Features(); f.Lock != mode || !f.Versions || len(f.Warnings) != 1 {
				t.Errorf("%+v", f)
			}
			for key, want := range map[string]int{"long": 30, "short": 2, "open": 0} {
				before := len(p.requests(http.MethodPut))
				create(t, s, key, blob.Bytes("x"))
				put := p.requests(http.MethodPut)[before]
				if want == 0 {
					if put.Header.Get("X-Amz-Object-Lock-Mode") != "" {
						t.Errorf("%s is locked: %v", key, put.Header)
					}
					continue
				}
				if put.Header.Get("X-Amz-Object-Lock-Mode") != strings.ToUpper(mode) || put.Header.Get("X-Amz-Checksum-Sha256") == "" {
					t.Errorf("%s: headers %v", key, put.Header)
				}
				if d := end(t, put).Sub(time.Now().Add(time.Duration(want) * 24 * time.Hour)).Abs(); d > 10*time.Minute {
					t.Errorf("%s: locked %v beside %d days", key, d, want)
				}
			}
			// A longer lock stays, a shorter one is extended.
			days["short"] = 20
			if until, err := s.Lock(t.Context(), "short"); err != nil || until.Before(time.Now().Add(19*24*time.Hour)) {
				t.Errorf("extend: %v, %v", until, err)
			}
			days["short"] = 3
			if until, err := s.Lock(t.Context(), "short"); err != nil || until.Before(time.Now().Add(19*24*time.Hour)) {
				t.Errorf("a longer lock: %v, %v", until, err)
			}
			_, err := s.Lock(t.Context(), "none")
			kindIs(t, err, errs.NotFound)
		})
	}
}

func TestADeletionIsDeferredUntilTheLockEnds(t *testing.T) {
	_, s := locked(t, s3.Governance, func(key string, most time.Duration) time.Duration {
		if key == "soon" {
			return time.Second
		}
		return most
	})
	for _, key := range []string{"a", "soon"} {
		create(t, s, key, blob.Bytes("one"))
	}
	for range 2 {
		kindIs(t, s.Delete(t.Context(), "a"), errs.Locked)
		_, err := s.Stat(t.Context(), "a")
		kindIs(t, err, errs.NotFound)
	}
	_, err := s.Lock(t.Context(), "a")
	kindIs(t, err, errs.NotFound)
	var kept []blob.Version
	if err := s.Versions(t.Context(), "a", "", func(v blob.Version) error { kept = append(kept, v); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 || !kept[0].Deletion || kept[1].Deletion {
		t.Errorf("kept: %+v", kept)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for err = s.Delete(t.Context(), "soon"); errors.Is(err, errs.Locked); err = s.Delete(t.Context(), "soon") {
		<-tick.C
	}
	if err != nil {
		t.Errorf("after the lock's end: %v", err)
	}
	if err := s.Versions(t.Context(), "soon", "", func(v blob.Version) error { return errors.New("left: " + v.Key) }); err != nil {
		t.Error(err)
	}
}

func TestALegalHoldDefersADeletion(t *testing.T) {
	server := s3test.StartVersioned(t)
	bucket := server.VersionedBucket(t)
	s := open(t, config(t, server.URL(bucket, "")))
	create(t, s, "held", blob.Bytes("two"))
	attacker := s3test.NewAttacker(server.Endpoint, bucket, "")
	var of blob.Version
	if err := s.Versions(t.Context(), "", "", func(v blob.Version) error { of = v; return nil }); err != nil {
		t.Fatal(err)
	}
	attacker.Hold(t, "held", of.ID, true)
	kindIs(t, s.Delete(t.Context(), "held"), errs.Locked)
	attacker.Hold(t, "held", of.ID, false)
	if err := s.Delete(t.Context(), "held"); err != nil {
		t.Error(err)
	}
}

func TestWhatTheBucketCannotDoIsRefused(t *testing.T) {
	p := newProxy(t)
	c := p.config()
	c.LockMode, c.LockDays = s3.Governance, 1
	refused(t, c, errs.Unsupported, "cannot lock objects")
	c = p.config()
	c.Encryption = "AES256"
	refused(t, c, errs.Unsupported, "does not confirm", "sse=AES256")
	_, err := blob.AsVersioned(p.store(t))
	kindIs(t, err, errs.Unsupported)
	c = p.config()
	c.DeleteCredentials = "env:TUSKVAULT_TEST_NONE"
	refused(t, c, errs.Denied, "TUSKVAULT_TEST_NONE_ACCESS_KEY_ID")
}

func TestEncryptionAndStorageClassAreAskedFor(t *testing.T) {
	p := newProxy(t)
	// This server takes the headers and does not confirm; Amazon does.
	p.answer = func(r *http.Request, h http.Header) {
		if want := r.Header.Get("X-Amz-Server-Side-Encryption"); r.Method == http.MethodPut && want != "" {
			h.Set("X-Amz-Server-Side-Encryption", want)
		}
	}
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for i, want := range []struct{ sse, key string }{{"AES256", ""}, {"aws:kms", ""}, {"aws:kms", arn}} {
		c := p.config()
		c.Encryption, c.EncryptionKey, c.StorageClass = want.sse, want.key, "STANDARD_IA"
		s := p.opened(t, c)
		create(t, s, fmt.Sprintf("key-%d", i), blob.Bytes("x"))
		h := p.requests(http.MethodPut)[0].Header
		if h.Get("X-Amz-Server-Side-Encryption") != want.sse || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != want.key || h.Get("X-Amz-Storage-Class") != "STANDARD_IA" {
			t.Errorf("%v: headers %v", want, h)
		}
		if f := s.Features(); f.Encryption != want.sse || f.StorageClass != "STANDARD_IA" {
			t.Errorf("%+v", f)
		}
	}
}

func TestTheCredentialsThatWriteNeverDelete(t *testing.T) {
	const pruner, secret = "pruning-key", "pruning-secret-key"
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte("[pruning]\naws_access_key_id = "+pruner+"\naws_secret_access_key = "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"profile:pruning", "env:TUSKVAULT_TEST_PRUNING"} {
		t.Run(reference, func(t *testing.T) {
			p := newProxyOf(t, s3test.StartVersioned(t))
			p.bucket = p.real.VersionedBucket(t)
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
			t.Setenv("TUSKVAULT_TEST_PRUNING_ACCESS_KEY_ID", pruner)
			t.Setenv("TUSKVAULT_TEST_PRUNING_SECRET_ACCESS_KEY", secret)
			p.foreign = pruner
			c := p.config()
			c.DeleteCredentials = reference
			s := open(t, c)
			if !s.Features().SeparateDeletes {
				t.Error("not told")
			}
			create(t, s, "a", blob.Bytes("one"))
			create(t, s, "b", blob.Bytes("two"))
			attacker := s3test.NewAttacker(p.real.Endpoint, p.bucket, "")
			attacker.Overwrite(t, "a", []byte("rubbish"))
			attacker.Hide(t, "b")
			var b blob.Version
			if err := s.Versions(t.Context(), "b", "", func(v blob.Version) error { b = v; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Recover(t.Context(), b), s.Delete(t.Context(), "a"), s.Delete(t.Context(), "b")); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			by := map[string][]string{}
			for _, r := range p.seen {
				if !slices.Contains(by[signer(r)], r.Method) {
					by[signer(r)] = append(by[signer(r)], r.Method)
				}
			}
			if got := by[pruner]; !slices.Equal(got, []string{http.MethodDelete}) {
				t.Errorf("the pruning credentials signed %v", got)
			}
			if got := by[s3test.AccessKey]; slices.Contains(got, http.MethodDelete) || len(got) == 0 || len(by) != 2 {
				t.Errorf("the writing credentials signed %v; all: %v", got, by)
			}
		})
	}
}

func TestHowObjectsAreKeptIsPartOfTheURL(t *testing.T) {
	c := config(t, "s3://bucket/p?sse=aws:kms&sse_kms_key=alias/backups&storage_class=STANDARD_IA&lock=compliance&lock_days=90&delete_credentials=profile:pruning")
	want := s3.Config{Bucket: "bucket", Prefix: "p", Encryption: "aws:kms", EncryptionKey: "alias/backups", StorageClass: "STANDARD_IA", LockMode: s3.Compliance, LockDays: 90, DeleteCredentials: "profile:pruning"}
	if c.LockTime = nil; fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("got %+v", c)
	}
	for _, bad := range []string{"sse=des", "sse_kms_key=k", "sse=AES256&sse_kms_key=k", "storage_class=GLACIER", "storage_class=a", "lock=governance", "lock_days=3", "lock=soft&lock_days=3",
		"lock=compliance&lock_days=0", "lock=compliance&lock_days=-1", "lock=compliance&lock_days=36500", "lock=compliance&lock_days=x", "delete_credentials=secret", "delete_credentials=env:A-B",
		"single_writer=true", "lock=compliance&lock_days=3&lock_days=4"} {
		if _, err := s3.ParseURL("s3://bucket?" + bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
