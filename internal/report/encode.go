package report

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Encode writes the document: JSON without white space, the fields in the order
// of the types, every field there, lists never null, times in UTC to the
// microsecond. It first cuts what is longer than the bounds; verdicts and counts
// do not depend on what is cut.
func (r *Report) Encode() ([]byte, error) {
	r.Format = Format
	r.bound()
	b, err := r.marshal()
	for err == nil && len(b) > MaxBytes && r.shrink() {
		b, err = r.marshal()
	}
	if err != nil {
		return nil, fmt.Errorf("write drill report: %w", err)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("write drill report: %d bytes, at most %d are kept: %w", len(b), MaxBytes, errs.Exhausted)
	}
	return b, nil
}

func (r *Report) marshal() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people and other programs read it
	if err := e.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Decode reads a document. Whatever Encode would not have written is Invalid,
// as is a verdict that does not follow from what is listed; another format is
// Unsupported.
func Decode(b []byte) (*Report, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("read drill report: %d bytes, at most %d are taken: %w", len(b), MaxBytes, errs.Invalid)
	}
	var head struct {
		Format int `json:"tuskvault_drill_report"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read drill report: %w: %w", err, errs.Invalid)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("read drill report: format %d, this program knows %d: %w", head.Format, Format, errs.Unsupported)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read drill report: %w: %w", err, errs.Invalid)
	}
	again, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("read drill report: not in the one form that it has: %w", errs.Invalid)
	}
	return &r, r.consistent()
}

// consistent checks that verdicts follow from what is listed, and that counts
// are at least what is listed.
func (r *Report) consistent() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("read drill report: %s: %w", fmt.Sprintf(format, args...), errs.Invalid)
	}
	seen := map[string]bool{}
	for i := range r.Databases {
		d := &r.Databases[i]
		if seen[d.Name] {
			return bad("database %s is there twice", d.Name)
		}
		seen[d.Name] = true
		if v, _ := d.Judge(); v != d.Verdict {
			return bad("database %s: the verdict is %q, what is listed says %q", d.Name, d.Verdict, v)
		}
		counts := map[Comparison]int64{Equal: d.Equal, Differs: d.Differing, NotCompared: d.NotCompared + d.Omitted}
		for _, t := range d.Tables {
			left, known := counts[t.Result]
			if !known || left <= 0 {
				return bad("database %s: more tables are listed as %q than counted", d.Name, t.Result)
			}
			counts[t.Result]--
		}
		for _, n := range []int64{d.Rows, d.PlainBytes, d.DiskBytes, d.Equal, d.Differing, d.NotCompared, d.Omitted} {
			if n < 0 {
				return bad("database %s: a negative count", d.Name)
			}
		}
	}
	if v, _ := r.Judge(); v != r.Verdict {
		return bad("the verdict is %q, what is listed says %q", r.Verdict, v)
	}
	return nil
}

// bound cuts lists and texts, and gives every list and time its one form.
func (r *Report) bound() {
	for _, s := range []*string{&r.Job, &r.Attempt, &r.Repository, &r.Domain, &r.Snapshot, &r.Agent, &r.Reason, &r.Host.Name,
		&r.Host.OperatingSystem, &r.Host.AgentVersion, &r.Host.ServerFolder} {
		*s = text(*s)
	}
	r.Started, r.Ended = moment(r.Started), moment(r.Ended)
	r.Asked = lines(r.Asked, MaxDatabases)
	r.Phases = phases(r.Phases)
	r.Databases = some(r.Databases, MaxDatabases)
	tables, assertions := MaxTables, MaxAssertions
	for i := range r.Databases {
		d := &r.Databases[i]
		d.Name, d.Reason, d.State, d.Locale = text(d.Name), text(d.Reason), text(d.State), text(d.Locale)
		slices.SortStableFunc(d.Tables, func(a, b Table) int { return cmp.Compare(rank(a.Result), rank(b.Result)) })
		d.Tables = some(d.Tables, tables)
		tables -= len(d.Tables)
		for j := range d.Tables {
			d.Tables[j].Name, d.Tables[j].Reason = text(d.Tables[j].Name), text(d.Tables[j].Reason)
		}
		d.Assertions = some(d.Assertions, assertions)
		assertions -= len(d.Assertions)
		for j := range d.Assertions {
			a := &d.Assertions[j]
			a.Name, a.SQL, a.Detail = text(a.Name), text(a.SQL), text(a.Detail)
		}
		d.Output, d.Extensions, d.Warnings = lines(d.Output, MaxLines), lines(d.Extensions, 5*MaxLines), lines(d.Warnings, MaxLines)
		d.Work = phases(d.Work)
	}
}

// rank puts what people must see first.
func rank(c Comparison) int {
	switch c {
	case Differs:
		return 0
	case NotCompared:
		return 1
	}
	return 2
}

// shrink drops the longest of what is only for people; false when there is
// nothing left to drop.
func (r *Report) shrink() bool {
	dropped := false
	for i := range r.Databases {
		d := &r.Databases[i]
		dropped = dropped || len(d.Tables)+len(d.Output)+len(d.Extensions)+len(d.Warnings) > 0
		d.Tables, d.Output = d.Tables[:len(d.Tables)/2], d.Output[:len(d.Output)/2]
		d.Extensions, d.Warnings = d.Extensions[:len(d.Extensions)/2], d.Warnings[:len(d.Warnings)/2]
	}
	r.Phases = r.Phases[:len(r.Phases)/2]
	return dropped
}

// some gives at most n of a list, never nil.
func some[T any](list []T, n int) []T {
	if list == nil {
		return []T{}
	}
	return list[:min(len(list), max(n, 0))]
}

func lines(list []string, n int) []string {
	out := make([]string, 0, min(len(list), n))
	for _, s := range some(list, n) {
		out = append(out, text(s))
	}
	return out
}

func phases(list []Phase) []Phase {
	list = some(list, MaxPhases)
	for i := range list {
		list[i].Name, list[i].Database = text(list[i].Name), text(list[i].Database)
	}
	return list
}

// text gives valid UTF-8 of at most MaxText bytes.
func text(s string) string {
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText-3], "") + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// moment gives a time its one form.
func moment(t time.Time) time.Time { return t.UTC().Round(time.Microsecond) }

// Sign signs a document with the key of a certificate (DER).
func Sign(statement []byte, key *ecdsa.PrivateKey, certificate []byte) (Signed, error) {
	hash := sha256.Sum256(statement)
	signature, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		return Signed{}, fmt.Errorf("sign drill report: %w", err)
	}
	return Signed{Statement: statement, Signature: signature, Certificate: certificate}, nil
}

// Verify checks that the key of the certificate signed the document, and reads
// it. Whose certificate it is, is for the caller to know. A signature that does
// not fit is Denied.
func (s Signed) Verify() (*Report, error) {
	c, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of the drill report: %w: %w", err, errs.Invalid)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	hash := sha256.Sum256(s.Statement)
	if !ok || !ecdsa.VerifyASN1(key, hash[:], s.Signature) {
		return nil, fmt.Errorf("signature of the drill report: it does not fit its certificate: %w", errs.Denied)
	}
	return Decode(s.Statement)
}
