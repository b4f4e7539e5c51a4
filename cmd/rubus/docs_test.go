package main

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what documents have of the code")

// docs/architecture.md has every package, with the sentence of its package comment.
func TestDocsListPackages(t *testing.T) {
	const doc, begin, end = "../../docs/architecture.md", "| package | what it is |\n|---|---|\n", "\n\n"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no table %q", doc, begin)
	}
	rows := map[string]string{}
	for _, f := range parseModule(t) {
		if f.test || f.ast.Doc == nil {
			continue
		}
		first, _, _ := strings.Cut(f.ast.Doc.Text(), "\n\n")
		words := strings.Fields(first) // Package X is ...
		rows[f.pkg] = fmt.Sprintf("| `%s` | %s |\n", f.pkg, strings.ReplaceAll(strings.Join(words[2:], " "), "|", "\\|"))
	}
	var table strings.Builder
	for _, pkg := range slices.Sorted(maps.Keys(rows)) {
		table.WriteString(rows[pkg])
	}
	want := strings.TrimSuffix(table.String(), "\n")
	if want == was {
		return
	}
	if !*update {
		for row := range strings.Lines(want + "\n") {
			if !strings.Contains(was+"\n", row) {
				t.Logf("it should have: %s", row)
			}
		}
		t.Fatalf("%s does not list the packages as their comments say: go test ./cmd/rubus -run TestDocsListPackages -update writes it", doc)
	}
	if err := os.WriteFile(doc, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every test and script that the documents name is there.
func TestDocsNameWhatIsThere(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		code.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	named := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z][A-Za-z0-9]*)`|((?:^|[ `(])scripts/[a-z][a-z-]*)")
	found := 0
	for _, doc := range append(docs, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			found++
			if test := string(m[1]); test != "" && !strings.Contains(code.String(), "func "+test+"(") {
				t.Errorf("%s names %s, which is not there", filepath.Base(doc), test)
			}
			script := strings.TrimLeft(string(m[2]), " `(\n")
			if _, err := os.Stat(filepath.Join(root, script)); script != "" && err != nil {
				t.Errorf("%s names %s: %v", filepath.Base(doc), script, err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names were found", found)
	}
}
