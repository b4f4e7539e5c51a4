package main

import (
	"flag"
	"fmt"
	"go/ast"
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

// Every test and script that the documents name is there, and each test in the package
// that is said with it.
func TestDocsNameWhatIsThere(t *testing.T) {
	where := map[string][]string{} // of each test
	for _, f := range parseModule(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				where[fn.Name.Name] = append(where[fn.Name.Name], "/"+f.pkg)
			}
		}
	}
	isPackage := func(word string) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(house())), func(pkg string) bool { return strings.HasSuffix("/"+pkg, "/"+word) })
	}
	test := regexp.MustCompile("([a-z0-9/]*)\\s?`((?:Test|Benchmark|Fuzz)[A-Z][A-Za-z0-9]*)`")
	script := regexp.MustCompile("(?:^|[ `(])(scripts/[a-z][a-z-]*)|`([a-z_-]+\\.txtar)`")
	found := 0
	for doc, text := range documents(t) {
		for _, m := range test.FindAllStringSubmatch(text, -1) {
			found++
			switch dirs := where[m[2]]; {
			case len(dirs) == 0:
				t.Errorf("%s names %s, which is not there", doc, m[2])
			case isPackage(m[1]) && !slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasSuffix(dir, "/"+m[1]) }):
				t.Errorf("%s says that %s is of %s; it is of %s", doc, m[2], m[1], dirs)
			}
		}
		for _, m := range script.FindAllStringSubmatch(text, -1) {
			found++
			name := m[1]
			if name == "" {
				name = "cmd/rubus/testdata/script/" + m[2]
			}
			if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
				t.Errorf("%s names %s: %v", doc, name, err)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d names were found", found)
	}
	// Files and folders of the source; those below nfsexport are said without it.
	source := regexp.MustCompile("`((?:boot|cmd|config|handlefs|images|nfsexport|overlay)/[a-z0-9_/]+(?:\\.[a-z]+)?)`")
	for doc, text := range documents(t) {
		for _, m := range source.FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(filepath.Join("../..", m[1]))
			if _, below := os.Stat(filepath.Join("../../nfsexport", m[1])); err != nil && below != nil {
				t.Errorf("%s names %s: %v", doc, m[1], err)
			}
		}
	}
}

// Every link of the documents leads to a file, and to a heading of it.
func TestDocsLinks(t *testing.T) {
	docs := documents(t)
	link := regexp.MustCompile(`\]\(([^)#: ]*)(?:#([^) ]*))?\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	mark := regexp.MustCompile("[^a-z0-9 -]")
	found := 0
	for doc, text := range docs {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			found++
			dir, target := "../../docs", m[1]
			if doc == "README.md" {
				dir = "../.."
			}
			if target == "" {
				target = doc
			}
			if _, err := os.Stat(filepath.Join(dir, target)); err != nil {
				t.Errorf("%s: %v", doc, err)
				continue
			}
			if m[2] == "" {
				continue
			}
			var anchors []string
			for _, h := range heading.FindAllStringSubmatch(docs[filepath.Base(target)], -1) {
				anchors = append(anchors, strings.ReplaceAll(mark.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
			}
			if !slices.Contains(anchors, m[2]) {
				t.Errorf("%s: %s has no heading %s", doc, target, m[2])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d links were found", found)
	}
}
