package report_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/report"
)

// good is a database that passed.
func good(name string) report.Database {
	return report.Database{Name: name, State: "complete", Restored: true, Rows: 3, Equal: 2, Amcheck: report.AmcheckClean,
		Tables:     []report.Table{{Name: "public.t", Result: report.Equal, Rows: 3}, {Name: "public.u", Result: report.Equal}},
		Assertions: []report.Assertion{{Name: "a", SQL: "SELECT a < b", Result: report.Holds}}}
}

func drill(databases ...report.Database) *report.Report {
	r := &report.Report{Job: "j", Snapshot: "s", Started: time.Now(), Ended: time.Now().Add(time.Second), Databases: databases}
	r.Settle()
	return r
}

func TestTheVerdictFollowsFromWhatIsListed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *report.Database)
		want   report.Verdict
	}{
		"everything ran":                        {func(*report.Database) {}, report.Passed},
		"no assertions":                         {func(d *report.Database) { d.Assertions = nil }, report.Passed},
		"the host has no pg_amcheck":            {func(d *report.Database) { d.Amcheck = report.AmcheckNotAvailable }, report.Passed},
		"rows that the snapshot never had":      {func(d *report.Database) { d.Omitted = 1 }, report.Passed},
		"pg_amcheck did not run":                {func(d *report.Database) { d.Amcheck = report.AmcheckNotRun }, report.Incomplete},
		"pg_amcheck broke off":                  {func(d *report.Database) { d.Amcheck = report.AmcheckFailed }, report.Incomplete},
		"an unknown word for pg_amcheck":        {func(d *report.Database) { d.Amcheck = "fine" }, report.Incomplete},
		"pg_amcheck found damage":               {func(d *report.Database) { d.Amcheck = report.AmcheckDamaged }, report.Failed},
		"a table differs":                       {func(d *report.Database) { d.Differing, d.Restored = 1, false }, report.Failed},
		"a table was not compared":              {func(d *report.Database) { d.NotCompared = 1 }, report.Incomplete},
		"a damaged chunk":                       {func(d *report.Database) { d.Restored, d.Damaged = false, true }, report.Failed},
		"the network broke":                     {func(d *report.Database) { d.Restored = false }, report.Incomplete},
		"partial in the snapshot":               {func(d *report.Database) { d.State = "partial" }, report.Incomplete},
		"failed in the snapshot":                {func(d *report.Database) { d.State, d.Restored = "failed", false }, report.Incomplete},
		"partial in the snapshot, and it lies":  {func(d *report.Database) { d.State, d.Differing = "partial", 1 }, report.Failed},
		"an assertion that does not hold":       {func(d *report.Database) { d.Assertions[0].Result = report.DoesNotHold }, report.Failed},
		"an assertion that failed":              {func(d *report.Database) { d.Assertions[0].Result = report.AssertionFailed }, report.Failed},
		"an assertion that was not run":         {func(d *report.Database) { d.Assertions[0].Result = report.AssertionNotRun }, report.Incomplete},
		"an unknown word for an assertion":      {func(d *report.Database) { d.Assertions[0].Result = "yes" }, report.Incomplete},
		"nothing known of the database at all":  {func(d *report.Database) { *d = report.Database{Name: "x"} }, report.Incomplete},
		"an unknown state in the snapshot":      {func(d *report.Database) { d.State = "" }, report.Incomplete},
		"a difference where nothing else ended": {func(d *report.Database) { *d = report.Database{Name: "x", Differing: 1} }, report.Failed},
	} {
		d := good("shop")
		c.change(&d)
		got, why := d.Judge()
		if got != c.want || (why == "") != (got == report.Passed) {
			t.Errorf("%s: %s (%s), want %s", name, got, why, c.want)
		}
		if whole, _ := drill(good("a"), d, good("z")).Judge(); whole != c.want {
			t.Errorf("%s: the whole is %s, want %s", name, whole, c.want)
		}
	}
	if v, _ := drill().Judge(); v != report.Incomplete {
		t.Errorf("a drill of nothing %s", v)
	}
	bad, open := good("bad"), good("open")
	bad.Differing, open.Restored = 1, false
	if v, why := drill(open, bad).Judge(); v != report.Failed || !strings.Contains(why, "bad") {
		t.Errorf("%s: %s", v, why)
	}
}

func TestADocumentHasOneForm(t *testing.T) {
	r := drill(good("shop <&>"))
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte(`{"tuskvault_drill_report":1,`)) || bytes.Contains(b, []byte("null")) || !bytes.Contains(b, []byte("shop <&>")) {
		t.Errorf("document %s", b)
	}
	again, err := report.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again); d != "" {
		t.Error(d)
	}
	for name, change := range map[string]func(s string) string{
		"white space":          func(s string) string { return strings.Replace(s, ":", ": ", 1) },
		"a field more":         func(s string) string { return strings.Replace(s, `"job"`, `"more":1,"job"`, 1) },
		"a field twice":        func(s string) string { return strings.Replace(s, `"verdict"`, `"verdict":"failed","verdict"`, 1) },
		"a field less":         func(s string) string { return strings.Replace(s, `"asked":[],`, "", 1) },
		"null for a list":      func(s string) string { return strings.Replace(s, `"asked":[]`, `"asked":null`, 1) },
		"another zone":         func(s string) string { return strings.Replace(s, `Z","ended"`, `+00:00","ended"`, 1) },
		"another verdict":      func(s string) string { return strings.ReplaceAll(s, `"passed"`, `"failed"`) },
		"a table more":         func(s string) string { return strings.Replace(s, `"tables_equal":2`, `"tables_equal":1`, 1) },
		"a hidden difference":  func(s string) string { return strings.Replace(s, `"tables_differing":0`, `"tables_differing":1`, 1) },
		"a negative count":     func(s string) string { return strings.Replace(s, `"tables_omitted":0`, `"tables_omitted":-1`, 1) },
		"something behind it":  func(s string) string { return s + "{}" },
		"something else":       func(string) string { return "[]" },
		"nothing":              func(string) string { return "" },
		"another capital":      func(s string) string { return strings.Replace(s, `"job"`, `"Job"`, 1) },
		"a database twice":     func(s string) string { return twice(s) },
		"more than is allowed": func(s string) string { return s + strings.Repeat(" ", report.MaxBytes) },
	} {
		bent := change(string(b))
		if bent == string(b) {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := report.Decode([]byte(bent)); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := strings.Replace(string(b), `report":1`, `report":2`, 1)
	if _, err := report.Decode([]byte(newer)); !errors.Is(err, errs.Unsupported) {
		t.Errorf("a newer format: %v", err)
	}
}

// twice repeats the only database.
func twice(s string) string {
	i := strings.Index(s, `"databases":[`) + len(`"databases":[`)
	one := strings.TrimSuffix(s[i:], "]}")
	return s[:i] + one + "," + one + "]}"
}

func TestALongReportIsCutAndSaysTheSame(t *testing.T) {
	d := good("big")
	d.Tables = nil
	for i := range 50_000 {
		d.Tables = append(d.Tables, report.Table{Name: strings.Repeat("n", 300) + fmt.Sprint(i), Result: report.Equal})
	}
	d.Tables = append(d.Tables, report.Table{Name: "last", Result: report.Differs, Reason: strings.Repeat("ä", 5000)})
	d.Equal, d.Differing = 50_000, 1
	r := drill(d)
	for range 20_000 {
		r.Phases = append(r.Phases, report.Phase{Name: "p", Database: strings.Repeat("d", 60)})
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := report.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	got := again.Databases[0]
	if len(b) > report.MaxBytes || again.Verdict != report.Failed || got.Equal != 50_000 || len(got.Tables) == 0 || len(got.Tables) > report.MaxTables || got.Tables[0].Name != "last" {
		t.Errorf("%d bytes, %s, %d equal, %d listed, the first %.20s", len(b), again.Verdict, got.Equal, len(got.Tables), got.Tables[0].Name)
	}
}

func TestASignatureIsOfTheseBytesByThisKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := func(k *ecdsa.PrivateKey) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	b, err := drill(good("shop")).Encode()
	if err != nil {
		t.Fatal(err)
	}
	s, err := report.Sign(b, key, cert(key))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(); err != nil || r.Verdict != report.Passed {
		t.Fatalf("%v, %v", r, err)
	}
	bent := s
	bent.Statement = bytes.Replace(b, []byte("passed"), []byte("failed"), 1)
	foreign := s
	foreign.Certificate = cert(other)
	for name, s := range map[string]report.Signed{"other bytes": bent, "another key": foreign, "no signature": {Statement: b, Certificate: s.Certificate}} {
		if _, err := s.Verify(); !errors.Is(err, errs.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (report.Signed{Statement: b, Signature: s.Signature, Certificate: []byte("x")}).Verify(); !errors.Is(err, errs.Invalid) {
		t.Errorf("no certificate: %v", err)
	}
}
