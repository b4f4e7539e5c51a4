package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rubus/cmd/internal/cli"
)

// Every help text fits a terminal of 80 columns, and says what its verb does.
func TestHelpFits(t *testing.T) {
	none := func(string) string { return "" }
	g := cli.New(none, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	var names [][]string
	walk(newRoot(g), func(c *cobra.Command) {
		names = append(names, append(strings.Fields(c.CommandPath())[1:], "--help"))
	})
	for _, args := range names {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), args, none, strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 {
				t.Fatalf("exit code %d, %s", code, &errs)
			}
			if !strings.Contains(out.String(), "Usage:\n") {
				t.Errorf("no usage in %q", &out)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

// No verb has an option of its own by the name of one that all verbs have: that one could not
// be said to it.
func TestOptionsOfAll(t *testing.T) {
	g := cli.New(func(string) string { return "" }, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	root := newRoot(g)
	walk(root, func(c *cobra.Command) {
		root.PersistentFlags().VisitAll(func(all *pflag.Flag) {
			if f := c.Flags().Lookup(all.Name); c != root && f != nil && f != all {
				t.Errorf("%s --%s is not the --%s of all verbs", c.CommandPath(), f.Name, all.Name)
			}
		})
	})
}
