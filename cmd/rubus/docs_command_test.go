package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"rubus/cmd/internal/cli"
	"rubus/config/schema"
)

// documents gives the text of README and all of docs, by name.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	all := map[string]string{}
	for _, name := range append(names, "../../README.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(b)
	}
	return all
}

// said are the pieces of a document that are code: between backticks, and lines of blocks.
func said(text string) (out []string) {
	fenced := false
	var prose strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			out = append(out, strings.TrimSpace(line))
		default:
			prose.WriteString(line)
		}
	}
	for i, piece := range strings.Split(prose.String(), "`") {
		if i%2 == 1 {
			out = append(out, strings.Join(strings.Fields(piece), " "))
		}
	}
	return out
}

// Every verb and every option of the command that the documents name is there.
func TestDocsSayVerbsAsTheyAre(t *testing.T) {
	none := func(string) string { return "" }
	root := newRoot(cli.New(none, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	call := regexp.MustCompile(`(?:^|[\s(|"])rubus ([a-z-][^#|&;]*)`)
	option := regexp.MustCompile(`^\[?(--[a-z][a-z0-9-]*)`)
	verbs, options := 0, 0
	known := scriptsOptions(t)
	walk(root, func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
	})
	for name, text := range documents(t) {
		for _, piece := range said(text) {
			if o := option.FindStringSubmatch(piece); o != nil && !known[o[1]] {
				t.Errorf("%s: neither a verb nor a script has %s", name, o[1])
			}
			for _, m := range call.FindAllStringSubmatch(piece, -1) {
				words := strings.Fields(m[1])
				c, rest := root, words
				for len(rest) > 0 {
					next := below(c, rest[0])
					if next == nil {
						break
					}
					c, rest = next, rest[1:]
				}
				if c == root && !strings.HasPrefix(words[0], "-") || len(rest) > 0 && c.HasSubCommands() && !strings.HasPrefix(rest[0], "-") {
					t.Errorf("%s: there is no verb as in %q", name, m[0])
					continue
				}
				verbs++
				for _, w := range rest {
					if w == "--" {
						break // what a verb is to run
					}
					o := option.FindStringSubmatch(w)
					if o == nil {
						continue
					}
					if options++; !has(c, o[1]) {
						t.Errorf("%s: %q has no option %s, as in %q", name, c.CommandPath(), o[1], m[0])
					}
				}
			}
		}
	}
	if verbs < 50 || options < 30 {
		t.Errorf("only %d verbs and %d options were found", verbs, options)
	}
}

// scriptsOptions are those that the usage of scripts, and of what they start, has.
func scriptsOptions(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{"--help": true}
	scripts, err := filepath.Glob("../../scripts/*")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	option := regexp.MustCompile(`--[a-z][a-z0-9-]*`)
	for _, name := range append(scripts, "../nfsbench/main.go", "../stormbench/main.go") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range option.FindAllString(string(b), -1) {
			out[o] = true
		}
	}
	return out
}

func below(c *cobra.Command, word string) *cobra.Command {
	for _, sub := range c.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return sub
		}
	}
	return nil
}

func has(c *cobra.Command, option string) bool {
	name := strings.TrimPrefix(option, "--")
	found := name == "help" || c.Flags().Lookup(name) != nil
	c.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { found = found || f.Name == name })
	return found
}

// keys are those of a JSON Schema, with what is below them; nil: anything is.
type keys map[string]keys

// keysOf gathers the keys of an object of a schema.
func keysOf(t *testing.T, root, node map[string]any) keys {
	t.Helper()
	if ref, ok := node["$ref"].(string); ok {
		defs, _ := root["$defs"].(map[string]any)
		node, _ = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	properties, ok := node["properties"].(map[string]any)
	if !ok {
		return nil
	}
	out := keys{}
	for name, p := range properties {
		child, _ := p.(map[string]any)
		out[name] = keysOf(t, root, child)
	}
	return out
}

// Every key of rubus.yaml and devices.yaml that the documents name is there.
func TestDocsNameKeysThatAre(t *testing.T) {
	read := func(text string) (s map[string]any) {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	daemon, devices := read(schema.Daemon()), read(schema.Devices())
	rubus := keysOf(t, daemon, daemon)
	of := keysOf(t, devices, devices)
	defs, _ := devices["$defs"].(map[string]any)
	for _, d := range defs {
		node, _ := d.(map[string]any)
		for name, below := range keysOf(t, devices, node) {
			of[name] = below
		}
	}
	dotted := regexp.MustCompile(`^([a-z]+(?:\.[a-z0-9_]+)+):?( .*)?$`)
	block := regexp.MustCompile(`^[a-z_0-9]+: [^ ]`)
	files := []string{"nfs.key"} // of the state directory
	found := 0
	for name, text := range documents(t) {
		for _, piece := range said(text) {
			if m := dotted.FindStringSubmatch(piece); m != nil && !slices.Contains(files, m[1]) {
				path := strings.Split(m[1], ".")
				at, ok := rubus[path[0]]
				if !ok {
					continue // a file, a unit
				}
				found++
				for _, key := range path[1:] {
					if at == nil {
						break
					}
					if at, ok = at[key]; !ok {
						t.Errorf("%s: rubus.yaml has no %s", name, m[1])
					}
				}
			}
			var value map[string]any
			if !block.MatchString(piece) || yaml.Unmarshal([]byte(piece), &value) != nil {
				continue
			}
			for key, v := range value {
				at, ok := rubus[key]
				if _, device := of[key]; !ok && !device {
					continue
				}
				found++
				inner, _ := v.(map[string]any)
				for sub := range inner {
					_, here := at[sub]
					_, there := of[key][sub]
					if (at != nil || of[key] != nil) && !here && !there {
						t.Errorf("%s: there is no key %s.%s as in %q", name, key, sub, piece)
					}
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d keys were found", found)
	}
}
