package print

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// JSON writes a message as one JSON object: proto field names in the order of
// the .proto file, every field present, times in RFC 3339, durations in Go's
// form, int64 as numbers (they are sizes and counts), uint64 as strings (they
// are identifiers and positions, which lose digits in many readers), empty
// lists as [] and absent messages as null.
func JSON(w io.Writer, m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	return writeJSON(w, b)
}

// JSONLine writes what JSON writes, on one line.
func JSONLine(w io.Writer, m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// YAML writes what JSON writes, as YAML.
func YAML(w io.Writer, m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	return writeYAML(w, b)
}

func writeJSON(w io.Writer, b []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("indent answer: %w", err)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

func writeYAML(w io.Writer, b []byte) error {
	var n yaml.Node // a node keeps the order of the fields
	if err := yaml.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("turn answer into yaml: %w", err)
	}
	blockStyle(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return fmt.Errorf("write yaml: %w", err)
	}
	return e.Close()
}

// blockStyle undoes the flow style that reading JSON left. Strings stay quoted,
// since readers of YAML 1.1 take words such as "no" for something else; keys
// lose their quotes where that cannot happen.
func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style = 0
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && plainKey(c.Value) {
			c.Style = 0
		}
		blockStyle(c)
	}
}

// plainKey tells whether no reader takes a key for anything but a string.
func plainKey(s string) bool {
	switch s {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "":
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func marshal(m proto.Message) ([]byte, error) {
	var b bytes.Buffer
	if err := message(&b, m.ProtoReflect()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func message(b *bytes.Buffer, m protoreflect.Message) error {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return scalar(b, v.AsTime().UTC().Format(time.RFC3339Nano))
	case *durationpb.Duration:
		return scalar(b, v.AsDuration().String())
	}
	b.WriteByte('{')
	first := true
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() && !m.Has(f) {
			continue // of a choice, only what was chosen
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		if err := scalar(b, string(f.Name())); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := field(b, m, f); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func field(b *bytes.Buffer, m protoreflect.Message, f protoreflect.FieldDescriptor) error {
	switch v := m.Get(f); {
	case f.IsList():
		return list(b, f, v.List())
	case f.IsMap():
		return mapping(b, f, v.Map())
	case f.Message() != nil && !m.Has(f):
		b.WriteString("null")
		return nil
	default:
		return value(b, f, v)
	}
}

func list(b *bytes.Buffer, f protoreflect.FieldDescriptor, l protoreflect.List) error {
	b.WriteByte('[')
	for i := range l.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := value(b, f, l.Get(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func mapping(b *bytes.Buffer, f protoreflect.FieldDescriptor, m protoreflect.Map) error {
	keys := make([]string, 0, m.Len())
	byKey := map[string]protoreflect.Value{}
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		keys = append(keys, k.String())
		byKey[k.String()] = v
		return true
	})
	sort.Strings(keys)
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := scalar(b, k); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := value(b, f.MapValue(), byKey[k]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func value(b *bytes.Buffer, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(b, v.Message())
	case protoreflect.EnumKind:
		if d := f.Enum().Values().ByNumber(v.Enum()); d != nil {
			return scalar(b, string(d.Name()))
		}
		return scalar(b, int32(v.Enum()))
	case protoreflect.BytesKind:
		return scalar(b, base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return scalar(b, fmt.Sprint(v.Uint()))
	default:
		return scalar(b, v.Interface())
	}
}

func scalar(b *bytes.Buffer, v any) error {
	j, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %v as json: %w", v, err)
	}
	b.Write(j)
	return nil
}
