package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

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
