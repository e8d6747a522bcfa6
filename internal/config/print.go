package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Origin tells where the value of a key came from, for example
// "environment TUSKVAULT_LOG_LEVEL", or "default".
func (r *Report) Origin(key string) string {
	if o, ok := r.origins[key]; ok {
		return o
	}
	return "default"
}

// Print writes the configuration as YAML, each key with a comment that tells
// where its value came from. Secrets are redacted; what they refer to is told.
func (r *Report) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range r.fields {
		section := root
		parts := strings.Split(f.key, ".")
		for _, p := range parts[:len(parts)-1] {
			section = child(section, p)
		}
		key := scalar(parts[len(parts)-1])
		value := nodeOf(f.value)
		comment := r.Origin(f.key)
		if s, ok := f.value.Interface().(interface{ Reference() string }); ok && s.Reference() != "" {
			comment += ", refers to " + s.Reference()
		}
		if value.Kind == yaml.ScalarNode || len(value.Content) == 0 {
			value.LineComment = comment
		} else {
			key.HeadComment = comment
		}
		section.Content = append(section.Content, key, value)
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("print config: %w", err)
	}
	return e.Close()
}

// child finds or makes a section.
func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	c := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, scalar(name), c)
	return c
}

// nodeOf gives a value as YAML that Load reads back, but for secrets.
func nodeOf(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case time.Duration:
		return scalar(duration(x))
	case fmt.Stringer:
		return text(x.String())
	}
	switch v.Kind() {
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Len() == 0 || !isSection(v.Type().Elem()) {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, nodeOf(v.Index(i)))
		}
		return n
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag.Get("koanf")
			if tag != "" && tag != "-" && !v.Field(i).IsZero() {
				n.Content = append(n.Content, scalar(tag), nodeOf(v.Field(i)))
			}
		}
		return n
	case reflect.String:
		return text(v.String())
	}
	return scalar(fmt.Sprint(v.Interface()))
}

// scalar is a plain value.
func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// text is a value that stays text, quoted where it would read as something else.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// duration drops the zero parts of "15m0s".
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
