package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version string

// build is what "rubus version --json" prints.
type build struct {
	Version string `json:"version"`
	// Commit is the source's commit; "" when built outside a checkout.
	Commit string `json:"commit,omitempty"`
	// Modified says that the checkout had changes that were in no commit.
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if g.JSON {
				return g.printJSON(b)
			}
			fmt.Fprintf(g.Stdout, "rubus %s", b.Version)
			if b.Commit != "" {
				fmt.Fprintf(g.Stdout, " (%.12s", b.Commit)
				if b.Modified {
					fmt.Fprint(g.Stdout, ", modified")
				}
				fmt.Fprint(g.Stdout, ")")
			}
			fmt.Fprintf(g.Stdout, " %s %s\n", b.Go, b.Platform)
			return nil
		},
	}
}

// thisBuild reads what the Go toolchain wrote into the program.
func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}
