package knfsd

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/nfsexport"
)

// TestHoldEnds: a hold that the host could not be told of, or not of its end, is over all the
// same as soon as the host can be told again.
func TestHoldEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		atBegin bool // else it fails at the end
		tool    bool // exportfs fails; else the file cannot be written
	}{
		{"exportfs fails at its begin", true, true},
		{"the file cannot be written at its begin", true, false},
		{"exportfs fails at its end", false, true},
		{"the file cannot be written at its end", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			write := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			const works, fails = `#!/bin/sh
case $1 in
-s) cat "${0%/*}/etab" 2>/dev/null || : ;;
-o) echo "${3#*:} ${3%:*}($2)" >"${0%/*}/etab" ;;
-u) : >"${0%/*}/etab" ;;
esac
`, "#!/bin/sh\nexit 1\n"
			write("exportfs", works)
			exports := filepath.Join(dir, "exports.d")
			s, err := New(t.Context(), Options{Roots: roots, File: filepath.Join(exports, "rubus.exports")})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.seen.looked = true
			client := netip.MustParseAddr("10.0.0.31")
			if err := s.Publish(nfsexport.Export{ID: 9, Dir: roots + "/5b154510/1", Client: client, Activity: new(nfsexport.Activity)}); err != nil {
				t.Fatal(err)
			}
			breaks := func(on bool) {
				t.Helper()
				switch {
				case c.tool && on:
					write("exportfs", fails)
				case c.tool:
					write("exportfs", works)
				default:
					from, to := exports, exports+".away"
					if !on {
						if from, to = to, from; os.Remove(to) != nil {
							t.Fatal("nothing is in the way")
						}
					}
					if err := os.Rename(from, to); err != nil {
						t.Fatal(err)
					}
					if on {
						write("exports.d", "in the way")
					}
				}
			}
			if c.atBegin {
				breaks(true)
			}
			release, err := s.Hold(t.Context(), 9)
			if (err != nil) != c.atBegin {
				t.Fatal(err)
			}
			if !c.atBegin {
				breaks(true)
				release()
			}
			breaks(false)
			s.repair(t.Context())
			for _, from := range []string{filepath.Join(dir, "etab"), s.opt.File} {
				text, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				ours, _ := parse(text, roots)
				if len(ours) != 1 || ours[0].held {
					t.Errorf("%s says %q", filepath.Base(from), strings.TrimSpace(string(text)))
				}
			}
		})
	}
}
