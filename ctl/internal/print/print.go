// Package print turns answers of the controller into what people and scripts
// read: tables, JSON, YAML and names on standard output, and progress on
// standard error. It knows no call and decides nothing.
package print

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Format is how an answer is printed.
type Format string

// The formats of -o.
const (
	FormatTable Format = "table"
	FormatWide  Format = "wide"
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
	FormatName  Format = "name"
)

// Formats lists them for help and completion.
func Formats() []string { return []string{"table", "wide", "json", "yaml", "name"} }

// ParseFormat reads the value of -o.
func ParseFormat(s string) (Format, error) {
	for _, f := range Formats() {
		if s == f {
			return Format(f), nil
		}
	}
	return "", fmt.Errorf("output format %q: want one of %s: %w", s, strings.Join(Formats(), ", "), errs.Invalid)
}

// View is one answer in every form.
type View struct {
	// Message is printed by json and yaml.
	Message proto.Message
	// Object is printed by json and yaml when the answer is no message of the API.
	Object any
	// Names are printed by name, one a line.
	Names []string
	// Table is printed by table and wide; nil when Text is set.
	Table *Table
	// Text is printed by table and wide instead of a table.
	Text string
}

// Printer prints views.
type Printer struct {
	// Out is standard output.
	Out io.Writer
	// Format is the value of -o.
	Format Format
	// Width is the width of the terminal, 0 when Out is none: then nothing is cut.
	Width int
	// Color tells whether to colour.
	Color bool
}

// Print writes one view.
func (p *Printer) Print(v View) error {
	switch p.Format {
	case FormatJSON, FormatYAML:
		return p.structured(v)
	case FormatName:
		return p.lines(v.Names)
	}
	if v.Table == nil {
		_, err := io.WriteString(p.Out, v.Text)
		return err
	}
	return v.Table.write(p.Out, p.Format == FormatWide, p.Width)
}

func (p *Printer) structured(v View) error {
	b, err := json.Marshal(v.Object)
	if v.Message != nil {
		b, err = marshal(v.Message)
	}
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	if p.Format == FormatYAML {
		return writeYAML(p.Out, b)
	}
	return writeJSON(p.Out, b)
}

func (p *Printer) lines(l []string) error {
	for _, s := range l {
		if _, err := fmt.Fprintln(p.Out, s); err != nil {
			return err
		}
	}
	return nil
}

// The colours of Paint.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
	Dim    = "2"
)

// Paint colours text when colours are on.
func (p *Printer) Paint(color, s string) string {
	if !p.Color {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}
