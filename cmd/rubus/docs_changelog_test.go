package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// changelog reads a CHANGELOG as Keep a Changelog 1.1.0 has it, a line at a time. A group may have
// headings of its own, and one paragraph below each.
type changelog struct {
	problems []string
	line     int

	release, group, heading string
	groups                  []string // of the release
	entries                 int      // below the last heading
	in                      string   // what the line before is of: "entry", "text" or ""
}

var (
	changeGroups  = []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	changeRelease = regexp.MustCompile(`^(\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2})$`)
)

// changelogProblems says what is wrong with the shape of a CHANGELOG.
func changelogProblems(text string) []string {
	c := &changelog{}
	for l := range strings.Lines(text) {
		c.line++
		c.take(strings.TrimRight(l, "\n"))
	}
	c.endHeading("")
	return c.problems
}

func (c *changelog) bad(format string, a ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%d: ", c.line)+fmt.Sprintf(format, a...))
}

func (c *changelog) take(l string) {
	was := c.in
	c.in = ""
	switch {
	case strings.TrimSpace(l) == "":
		return
	case strings.HasSuffix(l, " "):
		c.bad("it ends in a space")
	}
	switch {
	case strings.HasPrefix(l, "#"):
		c.takeHeading(l)
	case c.release == "":
	case strings.HasPrefix(l, "- "):
		if c.in = "entry"; c.group == "" {
			c.bad("an entry outside of a group")
		}
		if was == "" && c.entries > 0 {
			c.bad("an empty line between entries")
		}
		if c.entries++; was == "text" {
			c.bad("no empty line before the first entry")
		}
	case strings.HasPrefix(l, "  ") && l[2] != ' ' && !strings.HasPrefix(l, "  - "):
		if c.in = "entry"; was != "entry" {
			c.bad("it goes on with no entry")
		}
	case strings.HasPrefix(l, " "), strings.HasPrefix(l, "*"), strings.HasPrefix(l, "+"), strings.HasPrefix(l, "-"):
		c.bad("no bullet of one entry: %q", l)
	case c.entries > 0:
		c.bad("text behind an entry: %q", l)
	default:
		c.in = "text"
	}
}

func (c *changelog) takeHeading(l string) {
	level, name, _ := strings.Cut(l, " ")
	c.endHeading(level)
	c.heading, c.entries = level, 0
	switch level {
	case "#":
		if c.release != "" {
			c.bad("a second title")
		}
	case "##":
		if !changeRelease.MatchString(name) {
			c.bad("%q is no release", name)
		}
		if (name == "[Unreleased]") == (c.release != "") {
			c.bad("[Unreleased] is the first release, and no other")
		}
		c.release, c.group, c.groups = name, "", nil
	case "###":
		at := slices.Index(changeGroups, name)
		if at < 0 {
			c.bad("%q is none of the groups %q", name, changeGroups)
		}
		if n := len(c.groups); n > 0 && slices.Index(changeGroups, c.groups[n-1]) >= at {
			c.bad("%q comes behind %q", name, c.groups[n-1])
		}
		c.group, c.groups = name, append(c.groups, name)
	case "####":
		if c.group == "" {
			c.bad("%q is in no group", name)
		}
	default:
		c.bad("a heading %q", level)
	}
}

// endHeading says what is missing below the last heading, before one of another level; "": the end.
func (c *changelog) endHeading(next string) {
	if c.entries > 0 {
		return
	}
	switch c.heading {
	case "###":
		if next != "####" {
			c.bad("the group %q is empty", c.group)
		}
	case "####":
		c.bad("the heading before has no entries")
	}
}

// TestDocsChangelog holds the CHANGELOG in its shape.
func TestDocsChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range changelogProblems(string(text)) {
		t.Errorf("CHANGELOG.md:%s", p)
	}
	if !strings.HasPrefix(string(text), "# Changelog\n") || !strings.Contains(string(text), "\n- ") {
		t.Error("CHANGELOG.md has no title, or no entries")
	}

	const head = "# Changelog\n\nWhat changed.\n\n## [Unreleased]\n\n"
	for name, c := range map[string]struct{ text, want string }{
		"good":               {head + "First.\n\n### Added\n\nHow.\n\n- One,\n  and more.\n- Two.\n\n### Fixed\n\n#### Here\n\n- Three.\n\n## [0.1.0] - 2026-01-02\n\n### Added\n\n- Four.\n", ""},
		"no release":         {"# Changelog\n\n## Soon\n", `"Soon" is no release`},
		"Unreleased is last": {"# Changelog\n\n## [0.1.0] - 2026-01-02\n", "[Unreleased] is the first"},
		"another group":      {head + "### New\n\n- One.\n", `"New" is none of the groups`},
		"order":              {head + "### Fixed\n\n- One.\n\n### Added\n\n- Two.\n", `"Added" comes behind "Fixed"`},
		"a group twice":      {head + "### Added\n\n- One.\n\n### Added\n\n- Two.\n", `"Added" comes behind "Added"`},
		"an empty group":     {head + "### Added\n\n### Fixed\n\n- One.\n", `the group "Added" is empty`},
		"an empty last":      {head + "### Added\n", `the group "Added" is empty`},
		"an empty heading":   {head + "### Added\n\n#### Here\n\nText.\n\n#### There\n\n- One.\n", "no entries"},
		"outside":            {head + "- One.\n", "outside of a group"},
		"text behind":        {head + "### Added\n\n- One.\nmore\n", "text behind an entry"},
		"a paragraph":        {head + "### Added\n\n- One.\n\n  more\n", "it goes on with no entry"},
		"bullets in one":     {head + "### Added\n\n- One:\n  - two\n", "no bullet"},
		"another bullet":     {head + "### Added\n\n* One.\n", "no bullet"},
		"apart":              {head + "### Added\n\n- One.\n\n- Two.\n", "an empty line between"},
		"a space":            {head + "### Added\n\n- One. \n", "ends in a space"},
	} {
		got := strings.Join(changelogProblems(c.text), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
