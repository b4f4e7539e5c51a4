package changecmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/identity"
	"rubus/images/golden"
	"rubus/images/layered"
	"rubus/images/sysdiff"
	"rubus/images/treediff"
)

func TestPart(t *testing.T) {
	var changes []treediff.Change
	for _, p := range []string{"etc/hostname", "etc/keys/db", "etc/machine-id", "etc/motd", "usr/bin/htop", "var/log/messages"} {
		changes = append(changes, treediff.Change{Path: p, Kind: treediff.Added, Type: "file"})
	}
	changes = append(changes, treediff.Change{Path: "var/log/old", Kind: treediff.Removed, Type: "file"})
	owned := map[string]bool{"etc/hostname": true, "etc/motd": true}
	secret := func(c treediff.Change) bool { return c.Path == "etc/keys/db" }
	for name, c := range map[string]struct {
		include  string
		in, left string
	}{
		"nothing more": {
			"", "usr/bin/htop var/log/old",
			"etc/hostname=" + golden.Identity + " etc/keys/db=" + golden.Secret + " etc/machine-id=" + golden.Identity + " etc/motd=" + golden.Identity + " var/log/messages=" + golden.Litter,
		},
		"a file of its own": {
			"/etc/motd", "etc/motd usr/bin/htop var/log/old",
			"etc/hostname=" + golden.Identity + " etc/keys/db=" + golden.Secret + " etc/machine-id=" + golden.Identity + " var/log/messages=" + golden.Litter,
		},
		"all, but no secret": {"/", "etc/hostname etc/machine-id etc/motd usr/bin/htop var/log/messages var/log/old", "etc/keys/db=" + golden.Secret},
	} {
		var include []string
		if c.include != "" {
			include = []string{c.include}
		}
		in, left := part(changes, include, owned, secret)
		var got, why []string
		for _, c := range in {
			got = append(got, c.Path)
		}
		for _, l := range left {
			why = append(why, l.Path+"="+l.Why)
		}
		if strings.Join(got, " ") != c.in || strings.Join(why, " ") != c.left {
			t.Errorf("%s: %q, left out %q", name, got, why)
		}
	}
	if _, left := part(nil, nil, nil, secret); left == nil {
		t.Error("nothing left out is null in --json")
	}
}

// A secret is one wherever it is: at its own path, as a copy, and a host key of the board's own.
func TestIsSecret(t *testing.T) {
	const secret = "the password"
	sum := sha256.Sum256([]byte(secret))
	given := identity.Given{Files: []identity.GivenFile{{Path: "/etc/db.pass", Secret: true, Now: true, Digests: []string{hex.EncodeToString(sum[:])}}}}
	dir := t.TempDir()
	for p, text := range map[string]string{
		"etc/db.pass": "changed by the board", "srv/copy": secret, "etc/ssh/ssh_host_rsa_key": "KEY", "etc/ssh/ssh_host_rsa_key.pub": "pub",
		"etc/motd": "hello", "srv/empty": "", "srv/large": strings.Repeat("x", identity.MaxFile+1),
	} {
		p = filepath.Join(dir, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("db.pass", filepath.Join(dir, "etc/link")); err != nil {
		t.Fatal(err)
	}
	v, err := layered.Open([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for p, want := range map[string]bool{
		"etc/db.pass": true, "srv/copy": true, "etc/ssh/ssh_host_rsa_key": true, "etc/ssh/ssh_host_rsa_key.pub": false,
		"etc/motd": false, "srv/empty": false, "srv/large": false, "etc/link": false,
	} {
		n, err := v.Lookup(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := isSecret(given, v, p, n); got != want {
			t.Errorf("%s is a secret: %v", p, got)
		}
	}
}

func TestOnlyBelow(t *testing.T) {
	files := func() (out []sysdiff.File) {
		for _, c := range []treediff.Change{{Path: "etc"}, {Path: "etc/a"}, {Path: "etcetera"}, {Path: "opt/b", From: "etc/b"}, {Path: "usr/c"}} {
			out = append(out, sysdiff.File{Change: c})
		}
		return out
	}
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"all":                 {nil, "etc etc/a etcetera opt/b usr/c"},
		"a directory":         {[]string{"/etc"}, "etc etc/a opt/b"},
		"with a slash behind": {[]string{"etc/"}, "etc etc/a opt/b"},
		"where it went":       {[]string{"/opt"}, "opt/b"},
		"two":                 {[]string{"/usr/c", "/etc/a"}, "etc/a usr/c"},
		"none there":          {[]string{"/srv"}, ""},
	} {
		var got []string
		for _, f := range onlyBelow(files(), c.paths) {
			got = append(got, f.Path)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
