package identity_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"rubus/boot/identity"
	"rubus/boot/rootfile"
	"rubus/config/boardtext"
)

// box is a board's root without an overlay: what the board wrote is in upper only.
type box struct {
	*testing.T
	dir  string
	wish identity.Wish
	// golden is what the image has.
	golden map[string]identity.Golden
	// taken are host names of other boards.
	taken map[string]string
}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes owners: run it as root, by scripts/test")
	}
	b := &box{T: t, dir: t.TempDir(), golden: map[string]identity.Golden{}}
	b.wish.Facts = boardtext.Facts{Serial: "b8123456", Name: "bench-01"}
	b.write("root/etc/passwd", "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000::/home/pi:/bin/bash\nodd:x:5:5::/../..:/bin/sh\n", 0o644)
	b.write("root/etc/ssh/sshd_config", "", 0o644)
	b.write("root/etc/machine-id", "", 0o444)
	for _, d := range []string{"root/root", "root/home/pi", "upper/etc/ssh"} {
		must(t, os.MkdirAll(filepath.Join(b.dir, d), 0o755))
	}
	must(t, os.Chown(filepath.Join(b.dir, "root/home/pi"), 1000, 1000))
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *box) write(name, text string, mode fs.FileMode) {
	b.Helper()
	p := filepath.Join(b.dir, name)
	must(b.T, os.MkdirAll(filepath.Dir(p), 0o755))
	must(b.T, os.WriteFile(p, []byte(text), mode))
	must(b.T, os.Chmod(p, mode))
}

func (b *box) read(name string) string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "root", name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	must(b.T, err)
	return string(text)
}

// is compares mode and owner.
func (b *box) is(name string, mode fs.FileMode, uid uint32) {
	b.Helper()
	fi, err := os.Lstat(filepath.Join(b.dir, "root", name))
	must(b.T, err)
	if fi.Mode() != mode {
		b.Errorf("%s has mode %v, not %v", name, fi.Mode(), mode)
	}
	var st unix.Stat_t
	must(b.T, unix.Lstat(filepath.Join(b.dir, "root", name), &st))
	if st.Uid != uid {
		b.Errorf("%s belongs to %d, not %d", name, st.Uid, uid)
	}
}

func (b *box) store() identity.Store {
	return identity.Store{Dir: filepath.Join(b.dir, "state/identity")}
}

func (b *box) seed() identity.Result {
	b.Helper()
	res, err := identity.Seed{
		Store: b.store(), Wish: &b.wish, Root: filepath.Join(b.dir, "root"), Upper: filepath.Join(b.dir, "upper"),
		Golden: func(p string) (identity.Golden, error) { return b.golden[p], nil },
		Claim:  func(name string) string { return b.taken[name] },
	}.Do()
	must(b.T, err)
	return res
}

// newRoot is what a reset, or a move to another image, gives the board.
func (b *box) newRoot(was *box) {
	b.Helper()
	must(b.T, os.MkdirAll(filepath.Join(b.dir, "state"), 0o755))
	must(b.T, os.Rename(filepath.Join(was.dir, "state/identity"), filepath.Join(b.dir, "state/identity")))
}

var machineID = regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n$`)

// A board has an identity of its own, the same again over a new root, and done again
// nothing is written.
func TestIdentity(t *testing.T) {
	a := newBox(t)
	a.write("root/etc/hosts", "127.0.0.1 localhost\n127.0.1.1\traspberrypi\n", 0o644)
	a.wish.Hostname = "bench-01.lab"
	res := a.seed()
	if len(res.Problems) > 0 {
		t.Error(res.Problems)
	}
	if got := a.read("etc/hostname"); got != "bench-01.lab\n" {
		t.Errorf("host name %q", got)
	}
	if got := a.read("etc/hosts"); got != "127.0.0.1 localhost\n127.0.1.1\tbench-01.lab bench-01\n" {
		t.Errorf("hosts %q", got)
	}
	if got := a.read("etc/machine-id"); !machineID.MatchString(got) {
		t.Errorf("machine id %q", got)
	}
	a.is("etc/machine-id", 0o444, 0)
	if a.read("etc/ssh/ssh_host_rsa_key") != "(none)" {
		t.Error("an rsa key that nobody wants")
	}
	a.write("root/etc/ssh/sshd_config", "#HostKey /etc/ssh/ssh_host_rsa_key\nhostkey /etc/ssh/ssh_host_rsa_key\n", 0o644)
	a.seed()
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		name := "etc/ssh/ssh_host_" + kind + "_key"
		a.is(name, 0o600, 0)
		a.is(name+".pub", 0o644, 0)
		// OpenSSH takes it, and finds the same public key in it.
		out, err := exec.Command("ssh-keygen", "-y", "-f", filepath.Join(a.dir, "root", name)).CombinedOutput()
		if err != nil || !strings.HasPrefix(a.read(name+".pub"), strings.TrimSpace(string(out))) {
			t.Errorf("%s: %v\n%s%s", kind, err, out, a.read(name+".pub"))
		}
	}
	if again := a.seed(); len(again.Changed)+len(again.Problems) > 0 {
		t.Errorf("the second time: %+v", again)
	}
	err := filepath.Walk(filepath.Join(a.dir, "state"), func(p string, fi fs.FileInfo, err error) error {
		if want := fs.FileMode(0o600); err == nil && fi.Name() != "state" && (fi.IsDir() && fi.Mode().Perm() != 0o700 || !fi.IsDir() && fi.Mode() != want) {
			t.Errorf("%s has mode %v", p, fi.Mode())
		}
		return err
	})
	must(t, err)

	other, again := newBox(t), newBox(t)
	other.seed()
	again.wish.Hostname = a.wish.Hostname
	again.newRoot(a)
	again.seed()
	for _, name := range []string{"etc/hostname", "etc/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ed25519_key.pub"} {
		if a.read(name) == other.read(name) {
			t.Errorf("two boards have the same %s", name)
		}
		if a.read(name) != again.read(name) {
			t.Errorf("over a new root the board has another %s", name)
		}
	}
	g, err := again.store().Given()
	must(t, err)
	if g.Hostname != "bench-01.lab" || len(g.HostKeys) != 3 || g.MachineID+"\n" != a.read("etc/machine-id") {
		t.Errorf("on record: %+v", g)
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(g.HostKeys[2])); err != nil {
		t.Errorf("%q: %v", g.HostKeys[2], err)
	}
}

// What a board wrote before the server kept identities stays its own.
func TestAdoption(t *testing.T) {
	b := newBox(t)
	const id = "0f9a0c3d1b1c4f7e8d7a0123456789ab"
	key := filepath.Join(b.dir, "upper/etc/ssh/ssh_host_ed25519_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.write("upper/etc/machine-id", id+"\n", 0o444)
	b.write("upper/etc/hostname", "own\n", 0o644)
	b.write("upper/etc/ssh/ssh_host_rsa_key", "no key", 0o600)
	b.write("root/etc/ssh/sshd_config", "HostKey /etc/ssh/ssh_host_rsa_key\n", 0o644)
	b.seed()
	pub, err := os.ReadFile(key + ".pub")
	must(t, err)
	if got := b.read("etc/ssh/ssh_host_ed25519_key.pub"); strings.Fields(got)[1] != strings.Fields(string(pub))[1] {
		t.Errorf("host key %s, not %s", got, pub)
	}
	if b.read("etc/machine-id") != id+"\n" || b.read("etc/hostname") != "own\n" {
		t.Errorf("machine id %q, host name %q", b.read("etc/machine-id"), b.read("etc/hostname"))
	}
	if got := b.read("etc/ssh/ssh_host_rsa_key"); !strings.Contains(got, "PRIVATE KEY") {
		t.Errorf("rsa key %q", got)
	}
	// What devices.yaml says comes first.
	b.wish.Hostname, b.wish.MachineID = "said", strings.ReplaceAll(id, "f", "e")
	b.seed()
	if b.read("etc/machine-id") == id+"\n" || b.read("etc/hostname") != "said\n" {
		t.Errorf("machine id %q, host name %q", b.read("etc/machine-id"), b.read("etc/hostname"))
	}
	// A link that leads to another's key is none of the board's own.
	c := newBox(t)
	must(t, os.Symlink(key, filepath.Join(c.dir, "upper/etc/ssh/ssh_host_ed25519_key")))
	c.seed()
	if strings.Fields(c.read("etc/ssh/ssh_host_ed25519_key.pub"))[1] == strings.Fields(string(pub))[1] {
		t.Error("a link was followed")
	}
}

func TestFiles(t *testing.T) {
	b := newBox(t)
	secret := filepath.Join(b.dir, "secret")
	b.write("secret", "s3cret", 0o600)
	tmpl, err := boardtext.Parse("{{.Name}} {{.Hostname}} {{.Vars.site}}\n")
	must(t, err)
	b.wish.Facts.Vars = map[string]string{"site": "north"}
	b.wish.Files = []identity.File{
		{Path: "/etc/motd", Template: tmpl, Mode: 0o644},
		{Path: "/home/pi/app/token", From: secret, Secret: true, Mode: 0o600, Owner: "pi"},
		{Path: "/etc/hostname", Content: "listed\n", Mode: 0o640},
		{Path: "/etc/bad", From: filepath.Join(b.dir, "none"), Mode: 0o644},
		{Path: "/etc/who", Content: "x", Mode: 0o644, Owner: "nobody"},
		{Path: "/etc/large", Content: "x", Mode: 0o644},
	}
	res := b.seed()
	if got := b.read("etc/motd"); got != "bench-01 rpi-b8123456 north\n" {
		t.Errorf("motd %q", got)
	}
	if b.read("home/pi/app/token") != "s3cret" || b.read("etc/hostname") != "listed\n" {
		t.Error("wrong content")
	}
	b.is("home/pi/app/token", 0o600, 1000)
	b.is("home/pi/app", fs.ModeDir|0o755, 1000)
	if len(res.Problems) != 2 || !strings.Contains(res.Problems[0], "/etc/bad: open") || !strings.Contains(res.Problems[1], `"nobody" is not in the board's`) {
		t.Errorf("problems %q", res.Problems)
	}
	// A file that cannot be had now stays as it was.
	must(t, os.Rename(secret, secret+".away"))
	if res := b.seed(); b.read("home/pi/app/token") != "s3cret" || len(res.Problems) != 3 {
		t.Errorf("%q, %q", b.read("home/pi/app/token"), res.Problems)
	}
	must(t, os.Rename(secret+".away", secret))
	b.seed()

	// What is listed no more goes, unless the board made it its own.
	b.golden["/etc/motd"] = identity.Golden{Exists: true, File: rootfile.Copy{Content: strings.NewReader("golden\n"), Mode: 0o600, UID: 3}}
	b.write("root/etc/who", "mine", 0o644)
	b.write("root/etc/large", strings.Repeat("mine", 1<<19), 0o644)
	b.wish.Files = nil
	if res := b.seed(); len(res.Problems) > 0 {
		t.Errorf("problems %q", res.Problems)
	}
	if b.read("home/pi/app/token") != "(none)" || b.read("etc/motd") != "golden\n" || b.read("etc/who") != "mine" {
		t.Errorf("%q, %q, %q", b.read("home/pi/app/token"), b.read("etc/motd"), b.read("etc/who"))
	}
	b.is("etc/motd", 0o600, 3)
	if again := b.seed(); len(again.Changed) > 0 {
		t.Errorf("again: %q", again.Changed)
	}
	g, err := b.store().Given()
	must(t, err)
	i := slices.IndexFunc(g.Files, func(f identity.GivenFile) bool { return f.Path == "/home/pi/app/token" })
	if i < 0 || !g.Files[i].Secret || g.Files[i].Now {
		t.Errorf("on record: %+v", g.Files)
	}
}

func TestReferences(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct {
		name   string
		make   func(p string) error
		secret bool
		err    string
	}{
		{"secret", func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }, true, ""},
		{"group", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o640), os.Chmod(p, 0o640)) }, true, ""},
		{"readable", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Chmod(p, 0o644)) }, true, "everybody may read it (mode 0644): chmod 600 it"},
		{"plain", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Chmod(p, 0o644)) }, false, ""},
		{"writable", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Chmod(p, 0o664)) }, false, "others may write to it (mode 0664)"},
		{"another's", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Chown(p, 7, 0)) }, false, "it belongs to uid 7"},
		{"fifo", func(p string) error { return unix.Mkfifo(p, 0o600) }, false, "no regular file"},
		{"directory", func(p string) error { return os.Mkdir(p, 0o700) }, false, "no regular file"},
		{"large", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 2<<20)) }, false, "at most 1048576"},
		{"missing", func(string) error { return nil }, false, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "f")
			must(t, c.make(p))
			w := identity.Wish{Files: []identity.File{{Path: "/etc/x", From: p, Secret: c.secret, Mode: 0o600}}}
			err := w.CheckReferences()
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
			b.wish.Files = w.Files
			if res := b.seed(); (len(res.Problems) > 0) != (c.err != "") {
				t.Errorf("problems %q", res.Problems)
			}
		})
	}
}

// A store that cannot be read is an error, and nothing is written in its place.
func TestCorruptStore(t *testing.T) {
	for _, name := range []string{"machine-id", "ssh_host_ed25519_key", "given.json"} {
		b := newBox(t)
		b.write("state/identity/"+name, "rubbish", 0o600)
		_, err := identity.Seed{Store: b.store(), Wish: &b.wish, Root: b.dir + "/root", Upper: b.dir + "/upper"}.Do()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if b.read("etc/hostname") != "(none)" {
			t.Errorf("%s: something was written", name)
		}
	}
}

// What was being made for a board when the power went is made anew, and nothing of it is
// left: there are keys in it.
func TestFirstSeedIsCutOff(t *testing.T) {
	b := newBox(t)
	b.write("state/.identity.new/machine-id", strings.Repeat("ab", 16)+"\n", 0o600)
	b.write("state/.identity.new/ssh_host_ed25519_key", "half a ke", 0o600)
	b.seed()
	if _, err := os.Lstat(b.dir + "/state/.identity.new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
	g, err := b.store().Given()
	must(t, err)
	if g.MachineID == strings.Repeat("ab", 16) || b.read("etc/machine-id") != g.MachineID+"\n" || len(g.HostKeys) != 2 {
		t.Errorf("it is given %q and the keys %q", g.MachineID, g.HostKeys)
	}
	// One that lacks a file gets that alone, and keeps the rest.
	must(t, os.Remove(b.dir+"/state/identity/ssh_host_ecdsa_key"))
	b.seed()
	again, err := b.store().Given()
	must(t, err)
	if again.MachineID != g.MachineID || again.HostKeys[0] != g.HostKeys[0] || again.HostKeys[1] == g.HostKeys[1] {
		t.Errorf("it is given %q and the keys %q, after %q and %q", again.MachineID, again.HostKeys, g.MachineID, g.HostKeys)
	}
	// Where the store cannot be made the root has nothing of it.
	c := newBox(t)
	c.write("state", "in its place", 0o600)
	if _, err := (identity.Seed{Store: c.store(), Wish: &c.wish, Root: c.dir + "/root", Upper: c.dir + "/upper"}).Do(); err == nil || c.read("etc/hostname") != "(none)" {
		t.Errorf("%v, and the host name is %q", err, c.read("etc/hostname"))
	}
}

func TestNothingSecretIsTold(t *testing.T) {
	b := newBox(t)
	b.write("secret", "s3cret", 0o600)
	b.wish.Files = []identity.File{{Path: "/etc/x", From: b.dir + "/secret", Secret: true, Mode: 0o600}}
	res := b.seed()
	g, err := b.store().Given()
	must(t, err)
	text, err := json.Marshal([]any{res, g})
	must(t, err)
	for _, bad := range []string{"s3cret", "PRIVATE"} {
		if strings.Contains(string(text), bad) {
			t.Errorf("%q is in %s", bad, text)
		}
	}
}
