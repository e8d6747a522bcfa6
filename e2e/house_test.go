package e2e_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// modules are the folders of the workspace.
var modules = []string{"proto", "internal", "agent", "controller", "ctl", "e2e"}

// sources calls fn for each Go file of the product that people wrote.
func sources(t *testing.T, fn func(path string, text []byte)) {
	t.Helper()
	for _, m := range modules {
		must(t, filepath.WalkDir(filepath.Join("..", m), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil && !bytes.HasPrefix(text, []byte("// Code generated")) {
				fn(path, text)
			}
			return err
		}))
	}
}

func TestEachPackageSaysOnceWhatItIs(t *testing.T) {
	comments := map[string][]string{}
	sources(t, func(path string, text []byte) {
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.PackageClauseOnly|parser.ParseComments)
		must(t, err)
		dir := filepath.Dir(path)
		if f.Doc != nil {
			comments[dir] = append(comments[dir], path)
		} else if comments[dir] == nil {
			comments[dir] = []string{}
		}
	})
	if len(comments) < 40 {
		t.Fatalf("only %d packages were found", len(comments))
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments: %v", dir, len(files), files)
		}
	}
}

func TestFilesAndMainsStaySmall(t *testing.T) {
	sources(t, func(path string, text []byte) {
		lines := bytes.Count(text, []byte("\n"))
		if lines > 600 {
			t.Errorf("%s has %d lines; a file of more than 600 does not fit a head", path, lines)
		}
		if filepath.Base(path) == "main.go" && strings.Contains(path, "/cmd/tusk") && lines > 40 {
			t.Errorf("%s has %d lines; a main has at most 40", path, lines)
		}
	})
}

// link finds the targets of Markdown links.
var link = regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../*.md")
	must(t, err)
	for _, dir := range []string{"../docs", "../docs/adr", "../deploy"} {
		more, err := filepath.Glob(filepath.Join(dir, "*.md"))
		must(t, err)
		pages = append(pages, more...)
	}
	n := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		must(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
	if n == 0 {
		t.Error("no link was found")
	}
}
