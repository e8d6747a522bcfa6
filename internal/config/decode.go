package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tuskvault/tuskvault/internal/errs"
)

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
	secretType      = reflect.TypeFor[Secret]()
	oneTimeType     = reflect.TypeFor[OneTime]()
)

// decoder sets fields from the plain values that layers give.
type decoder struct {
	// lookup resolves names of secrets.
	lookup func(string) (string, bool)
}

// set decodes raw into v. Text is accepted for every scalar, since environment
// and flags have nothing else. Lists may be given as text: comma-separated for
// scalars, YAML for lists of sections.
func (d decoder) set(v reflect.Value, raw any) error {
	t := v.Type()
	switch {
	case raw == nil:
		return nil // "key:" with nothing after it keeps the default
	case t == secretType:
		text, ok := raw.(string)
		if !ok {
			return fmt.Errorf("a secret is given by reference: env:NAME, file:PATH or cred:NAME: %w", errs.Invalid)
		}
		s, err := ParseSecret(text)
		s.lookup = d.lookup
		v.Set(reflect.ValueOf(s))
		return err
	case t == oneTimeType:
		text, err := textOf(raw)
		if err != nil {
			return err
		}
		o := v.Addr().Interface().(*OneTime)
		err = o.UnmarshalText([]byte(text))
		o.lookup = d.lookup
		return err
	case t == durationType:
		return setDuration(v, raw)
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		text, err := textOf(raw)
		if err != nil {
			return err
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	case t.Kind() == reflect.Slice:
		return d.setList(v, raw)
	case t.Kind() == reflect.Struct:
		return d.setSection(v, raw)
	}
	return setScalar(v, raw)
}

// setDuration reads "15m". A bare number is refused: nobody knows its unit.
func setDuration(v reflect.Value, raw any) error {
	text, err := textOf(raw)
	if err != nil {
		return err
	}
	p, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s, 15m or 72h: %w", text, errs.Invalid)
	}
	v.SetInt(int64(p))
	return nil
}

// setScalar reads texts, numbers and truth values.
func setScalar(v reflect.Value, raw any) error {
	text, err := textOf(raw)
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false: %w", text, errs.Invalid)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number: %w", text, errs.Invalid)
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number: %w", text, errs.Invalid)
		}
		v.SetFloat(f)
	default:
		panic("config: field of unsupported type " + v.Type().String())
	}
	return nil
}

// setList reads a list.
func (d decoder) setList(v reflect.Value, raw any) error {
	items, ok := raw.([]any)
	if text, isText := raw.(string); isText {
		items, ok = splitList(text), true
		if isSection(v.Type().Elem()) {
			items = nil
			if err := yaml.Unmarshal([]byte(text), &items); err != nil {
				return fmt.Errorf("not a YAML list: %w", errs.Invalid)
			}
		}
	}
	if texts, isTexts := raw.([]string); isTexts {
		ok = true
		for _, t := range texts {
			items = append(items, t)
		}
	}
	if !ok {
		return fmt.Errorf("must be a list: %w", errs.Invalid)
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	var problems []error
	for i, item := range items {
		if err := d.set(list.Index(i), item); err != nil {
			problems = append(problems, fmt.Errorf("entry %d: %w", i+1, err))
		}
	}
	v.Set(list)
	return errors.Join(problems...)
}

// setSection reads a section inside a list.
func (d decoder) setSection(v reflect.Value, raw any) error {
	m, ok := raw.(map[string]any)
	if !ok {
		return fmt.Errorf("must be a section of keys: %w", errs.Invalid)
	}
	known := keysOf(v.Type())
	var problems []error
	for key := range m {
		if _, ok := known[key]; !ok {
			problems = append(problems, fmt.Errorf("unknown key %q%s: %w", key, meant(key, keyList(known)), errs.Invalid))
		}
	}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("koanf")
		if value, ok := m[tag]; ok && tag != "" {
			if err := d.set(v.Field(i), value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", tag, err))
			}
		}
	}
	return errors.Join(problems...)
}

// keyList gives the names of keys.
func keyList(m map[string]reflect.Type) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// textOf gives a scalar as text.
func textOf(raw any) (string, error) {
	switch raw.(type) {
	case []any, []string, map[string]any:
		return "", fmt.Errorf("must be one value: %w", errs.Invalid)
	}
	return fmt.Sprint(raw), nil
}

// splitList splits "a, b" into its parts; an empty text is an empty list.
func splitList(text string) []any {
	var out []any
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
