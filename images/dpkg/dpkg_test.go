package dpkg

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const before = `Package: bash
Status: install ok installed
Architecture: arm64
Version: 5.2.15-2+b7
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
 /etc/skel/.bashrc ee35a240758f374832e809ae0ea4883a
 /etc/gone 00000000000000000000000000000000 obsolete
Description: GNU Bourne Again SHell
 Bash is an sh-compatible command language interpreter.

Package: nano
Status: install ok installed
Architecture: arm64
Version: 7.2-1

Package: vim
Status: deinstall ok config-files
Architecture: arm64
Version: 2:9.0
`

const after = `Package: bash
Status: install ok installed
Architecture: arm64
Version: 5.2.15-10

Package: vim
Status: install ok installed
Architecture: arm64
Version: 2:9.1

Package: libc6
Status: install ok half-configured
Architecture: armhf
Version: 2.36
`

func parse(t *testing.T, s string) DB {
	t.Helper()
	db, err := Parse(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestCompare(t *testing.T) {
	a, b := parse(t, before), parse(t, after)
	want := []Change{
		{"bash", "arm64", Upgraded, "5.2.15-2+b7", "5.2.15-10"},
		{"libc6", "armhf", Broken, "", "2.36"},
		{"nano", "arm64", Removed, "7.2-1", ""},
		{"vim", "arm64", Installed, "", "2:9.1"},
	}
	if d := cmp.Diff(want, Compare(a, b)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if c := Compare(a, a); len(c) != 0 {
		t.Errorf("a database differs from itself: %v", c)
	}
	if c := Compare(b, a)[0]; c.Kind != Downgraded {
		t.Errorf("the other way: %v", c)
	}
	files := a.Conffiles()
	if len(files) != 2 || files["etc/bash.bashrc"] != (Conffile{"bash", "89269e1298235f1b12b4c16e4065ad0d"}) {
		t.Errorf("conffiles: %v", files)
	}
}

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1.0", "1.0", 0},
		{"1.0~rc1", "1.0", -1},
		{"1:0.9", "1.0", 1},
		{"2.36-9+deb12u4", "2.36-9+deb12u10", -1},
		{"1.0-1", "1.0-1+b1", -1},
		{"not a version", "other", -1},
	} {
		if got := CompareVersions(c.a, c.b); got < 0 != (c.want < 0) || got > 0 != (c.want > 0) {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestOwners(t *testing.T) {
	o := Owners{}
	o.Add("libc6:armhf.list", []byte("/.\n/lib\n/lib/ld.so\n"))
	o.Add("bash.list", []byte("/usr/bin/bash\n"))
	o.Add("bash.md5sums", []byte("/x\n"))
	for p, want := range map[string]string{"lib/ld.so": "libc6", "usr/lib/ld.so": "libc6", "usr/bin/bash": "bash", "x": "", "": ""} {
		if got := o.Of(p); got != want {
			t.Errorf("Of(%q) = %q, want %q", p, got, want)
		}
	}
}

// A root without a database, or with one that nobody can read, has no packages.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		err  error
		want int
	}{
		"two":     {"Package: bash\nStatus: install ok installed\n\nPackage: nano\nStatus: install ok installed\n", nil, 2},
		"none":    {"", fs.ErrNotExist, 0},
		"damaged": {"Package: bash\nStatus: install ok installed\n\n" + strings.Repeat("x", maxLine+1), nil, 0},
	} {
		db := Read(func(path string, limit int64) ([]byte, error) {
			if path != "var/lib/dpkg/status" || limit != MaxStatus {
				t.Errorf("%q is read to %d bytes", path, limit)
			}
			return []byte(c.text), c.err
		})
		if db == nil || len(db) != c.want {
			t.Errorf("%s: %v, want %d packages", name, db, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(before)
	f.Add(after)
	f.Add("Package: x\nConffiles:\n /a\n b\n\n\n: y\n \n")
	f.Fuzz(func(t *testing.T, s string) {
		db, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		db.Conffiles()
		if c := Compare(db, db); len(c) != 0 {
			t.Errorf("a database differs from itself: %v", c)
		}
	})
}
