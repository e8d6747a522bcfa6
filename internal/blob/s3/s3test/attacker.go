package s3test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// VersionedBucket makes a new bucket that keeps versions and can lock objects, on
// a server that StartVersioned started, and gives its name.
func (s *Server) VersionedBucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("versioned-%d", s.buckets.Add(1))
	MakeBucket(t, s.Endpoint, name, true)
	return name
}

// MakeBucket makes a bucket at any S3 server with the credentials of the tests.
func MakeBucket(t testing.TB, endpoint, name string, versions bool) {
	t.Helper()
	in := &s3.CreateBucketInput{Bucket: aws.String(name)}
	if versions {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	}
	if _, err := client(endpoint).CreateBucket(t.Context(), in); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
}

func client(endpoint string) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: aws.String(endpoint), UsePathStyle: true, Region: "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}, nil
		})})
}

// Attacker is somebody who may write to a bucket, delete markers included.
type Attacker struct {
	client         *s3.Client
	bucket, prefix string
}

// NewAttacker gives one; prefix ends with "/" or is empty.
func NewAttacker(endpoint, bucket, prefix string) *Attacker {
	return &Attacker{client: client(endpoint), bucket: bucket, prefix: prefix}
}

// Hide puts a delete marker over an object.
func (a *Attacker) Hide(t *testing.T, key string) {
	t.Helper()
	if _, err := a.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(a.bucket), Key: aws.String(a.prefix + key)}); err != nil {
		t.Fatalf("hide %s: %v", key, err)
	}
}

// Overwrite puts other bytes over an object.
func (a *Attacker) Overwrite(t *testing.T, key string, data []byte) {
	t.Helper()
	if _, err := a.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(a.bucket), Key: aws.String(a.prefix + key), Body: bytes.NewReader(data)}); err != nil {
		t.Fatalf("overwrite %s: %v", key, err)
	}
}

// Hold puts a legal hold on the newest version of an object, or lifts it.
func (a *Attacker) Hold(t *testing.T, key, version string, on bool) {
	t.Helper()
	status := types.ObjectLockLegalHoldStatusOff
	if on {
		status = types.ObjectLockLegalHoldStatusOn
	}
	if _, err := a.client.PutObjectLegalHold(t.Context(), &s3.PutObjectLegalHoldInput{Bucket: aws.String(a.bucket), Key: aws.String(a.prefix + key),
		VersionId: aws.String(version), LegalHold: &types.ObjectLockLegalHold{Status: status}}); err != nil {
		t.Fatalf("hold %s: %v", key, err)
	}
}

// HideAll puts a delete marker over every object of the bucket, and tells how many.
func (a *Attacker) HideAll(t *testing.T) (hidden int) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(a.client, &s3.ListObjectsV2Input{Bucket: aws.String(a.bucket), Prefix: aws.String(a.prefix)})
	var keys []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatalf("list to hide: %v", err)
		}
		for _, o := range page.Contents {
			keys = append(keys, aws.ToString(o.Key)[len(a.prefix):])
		}
	}
	for _, key := range keys {
		a.Hide(t, key)
	}
	return len(keys)
}
