package controller_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestStoreURLsAreJudgedAndNeverRepeatCredentials(t *testing.T) {
	for url, words := range map[string]string{
		"file:///var/backups": "",
		"s3://bucket":         "",
		"s3://bucket/a/b?endpoint=https://s3.example.com:9000&region=eu-1&path_style=true&ca_file=/etc/ca.pem": "",
		"file://host/path":               "must be file:///absolute/path or s3://BUCKET",
		"file:relative":                  "must be file:///absolute/path or s3://BUCKET",
		"gs://AKIAKEY:hunter2@bucket":    "must be file:///absolute/path or s3://BUCKET",
		"s3:bucket":                      "must be s3://BUCKET/PREFIX",
		"s3://B":                         "bucket must be",
		"s3://bucket/../x":               "prefix must be",
		"s3://bucket//x/":                "",
		"s3://AKIAKEY:hunter2@bucket":    "credentials are no part of a URL",
		"s3://bucket?secret_key=hunter2": `unknown parameter "secret_key"`,
		"s3://bucket?endpoint=https://AKIAKEY:hunter2@h":    "endpoint must be",
		"s3://bucket?endpoint=h:9000":                       "endpoint must be",
		"s3://bucket?endpoint=https://h/path":               "endpoint must be",
		"s3://bucket?path_style=hunter2":                    "path_style must be true or false",
		"s3://bucket?region=a%20b":                          "region must be",
		"s3://bucket?ca_file=ca.pem":                        "ca_file must be an absolute path",
		"s3://bucket?region=a&region=b":                     "given 2 times",
		"s3://bucket?region=%zz":                            "does not read",
		"s3://bucket#hunter2":                               "must be s3://BUCKET/PREFIX",
		"s3://bucket/" + strings.Repeat("long-prefix/", 30): "prefix must be",
	} {
		c := controller.DefaultConfig()
		c.Store = url
		err := c.Validate()
		switch {
		case words == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case words != "" && (!errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), words)):
			t.Errorf("%s: got %v, want %q", url, err, words)
		case err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "AKIAKEY")):
			t.Errorf("a credential is repeated: %v", err)
		}
	}
}
