// Package buildinfo says which build of rubus runs.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// version is set when a release is built: -ldflags "-X rubus/cmd/internal/buildinfo.version=v1.2.3".
var version string

// Info is what "rubus version --json" prints.
type Info struct {
	Version string `json:"version"`
	// Commit is the source's commit; "" when built outside a checkout.
	Commit string `json:"commit,omitempty"`
	// Modified says that the checkout had changes that were in no commit.
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// This reads what the Go toolchain wrote into the program.
func This() Info {
	b := Info{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
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
