package identity_test

import (
	"crypto/ed25519"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"rubus/boot/identity"
	"rubus/boot/rootfile"
)

// publicKeys are n public keys, each as a line without a comment.
func publicKeys(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		public, _, err := ed25519.GenerateKey(nil)
		must(t, err)
		k, err := ssh.NewPublicKey(public)
		must(t, err)
		out = append(out, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))))
	}
	return out
}

func TestAuthorizedKeys(t *testing.T) {
	keys := publicKeys(t, 10)
	b := newBox(t)
	b.write("lab.pub", "# the lab's\n"+keys[1]+" lab\n\n"+keys[2]+" lab2\n", 0o644)
	file := filepath.Join(b.dir, "lab.pub")
	b.wish.Keys = map[string][]identity.Key{"root": {{File: file}}, "pi": {{Line: keys[3] + " pi"}}, "ghost": {{Line: keys[0]}}, "odd": {{Line: keys[0]}}}
	res := b.seed()
	if got := b.read("root/.ssh/authorized_keys"); got != keys[1]+" lab\n"+keys[2]+" lab2\n" {
		t.Errorf("%q", got)
	}
	b.is("home/pi/.ssh", fs.ModeDir|0o700, 1000)
	b.is("home/pi/.ssh/authorized_keys", 0o600, 1000)
	if len(res.Problems) != 2 || !strings.Contains(res.Problems[0], "user ghost") || !strings.Contains(res.Problems[1], "user odd") {
		t.Errorf("problems %q", res.Problems)
	}
	// The board's own keys stay, those that are given no more go.
	b.write("root/root/.ssh/authorized_keys", b.read("root/.ssh/authorized_keys")+keys[9]+" own\n", 0o666)
	b.write("lab.pub", keys[2]+" lab2\n"+keys[4]+" lab4\n", 0o644)
	delete(b.wish.Keys, "pi")
	b.seed()
	if got := b.read("root/.ssh/authorized_keys"); got != keys[2]+" lab2\n"+keys[9]+" own\n"+keys[4]+" lab4\n" {
		t.Errorf("%q", got)
	}
	b.is("root/.ssh/authorized_keys", 0o600, 0)
	if got := b.read("home/pi/.ssh/authorized_keys"); got != "" {
		t.Errorf("pi's %q", got)
	}
	// A private key that was named by mistake is given to nobody.
	b.write("lab.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", 0o644)
	if res := b.seed(); len(res.Problems) != 4 || !strings.Contains(res.Problems[2], "lab.pub: line 1 is no public key") || strings.Contains(b.read("root/.ssh/authorized_keys"), "PRIVATE") {
		t.Errorf("problems %q, %q", res.Problems, b.read("root/.ssh/authorized_keys"))
	}
	// Nor does a file that cannot be read lock the admin out.
	for _, how := range []func() error{func() error { return nil }, func() error { return os.Remove(file) }} {
		must(t, how())
		b.seed()
		if got := b.read("root/.ssh/authorized_keys"); got != keys[2]+" lab2\n"+keys[9]+" own\n"+keys[4]+" lab4\n" {
			t.Errorf("with a file that cannot be read the keys are %q", got)
		}
	}
	b.write("lab.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", 0o644)
	if err := b.wish.CheckReferences(); err == nil || !strings.Contains(err.Error(), "line 2 is no public key") {
		t.Errorf("the check says %v", err)
	}
	// A user of the board may not lead root elsewhere.
	c := newBox(t)
	must(t, os.Symlink(filepath.Join(c.dir, "root/root"), filepath.Join(c.dir, "root/home/pi/.ssh")))
	c.wish.Keys = map[string][]identity.Key{"pi": {{Line: keys[3] + " pi"}}}
	if res := c.seed(); len(res.Problems) != 1 || c.read("root/authorized_keys") != "(none)" {
		t.Errorf("problems %q, %q", res.Problems, c.read("root/authorized_keys"))
	}
}

func TestHostKeysOfFiles(t *testing.T) {
	b := newBox(t)
	key := filepath.Join(b.dir, "mine")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.write("locked", "", 0o600)
	b.wish.HostKeys = []string{key, filepath.Join(b.dir, "locked")}
	res := b.seed()
	want, _ := os.ReadFile(key)
	if b.read("etc/ssh/ssh_host_ecdsa_key") != string(want) || b.read("etc/ssh/ssh_host_rsa_key") != "(none)" {
		t.Error("other keys than those of the file")
	}
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0], "no private key") {
		t.Errorf("problems %q", res.Problems)
	}
	b = newBox(t)
	b.wish.NoHostKeys = true
	b.seed()
	if b.read("etc/ssh/ssh_host_ed25519_key") != "(none)" {
		t.Error("a key that was not asked for")
	}
	// Keys that the board is given no more go: sshd would show them, and nobody knows them.
	for _, off := range []bool{false, true} {
		b := newBox(t)
		b.golden["/etc/ssh/ssh_host_ed25519_key.pub"] = identity.Golden{Exists: true, File: rootfile.Copy{Content: strings.NewReader("golden\n"), Mode: 0o644}}
		b.seed()
		made := b.read("etc/ssh/ssh_host_ed25519_key")
		b.write("root/etc/ssh/ssh_host_ecdsa_key.pub", "the board's\n", 0o644)
		b.wish.HostKeys = []string{filepath.Join(b.dir, "none")}
		if res := b.seed(); b.read("etc/ssh/ssh_host_ed25519_key") != made || len(res.Problems) != 1 {
			t.Errorf("with a file that is not there yet: problems %q", res.Problems)
		}
		want := "(none)"
		if b.wish.HostKeys, b.wish.NoHostKeys = nil, off; !off {
			b.wish.HostKeys = []string{key}
			text, err := os.ReadFile(key)
			must(t, err)
			want = string(text)
		}
		b.seed()
		if b.read("etc/ssh/ssh_host_ed25519_key") != "(none)" || b.read("etc/ssh/ssh_host_ecdsa_key") != want || b.read("etc/ssh/ssh_host_ed25519_key.pub") != "golden\n" {
			t.Errorf("off %v: a key that the board is given no more", off)
		}
		if got := b.read("etc/ssh/ssh_host_ecdsa_key.pub"); off && got != "the board's\n" {
			t.Errorf("what the board made its own is %q", got)
		}
		b.wish.HostKeys, b.wish.NoHostKeys = nil, false
		if b.seed(); b.read("etc/ssh/ssh_host_ed25519_key") != made {
			t.Error("made keys are not those of before")
		}
	}
	// Without sshd there is nowhere to put one; without /etc there is no system.
	for _, dir := range []string{"etc/ssh", "etc"} {
		b := newBox(t)
		must(t, os.RemoveAll(filepath.Join(b.dir, "root", dir)))
		b.wish.Files = []identity.File{{Path: "/boot/x", Content: "x", Mode: 0o644}}
		if res := b.seed(); len(res.Problems) > 0 || b.read("boot/x") != "x" {
			t.Errorf("problems %q", res.Problems)
		}
		if _, err := os.Stat(filepath.Join(b.dir, "root", dir)); err == nil {
			t.Errorf("/%s was made", dir)
		}
	}
}
