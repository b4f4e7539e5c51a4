package flow

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"rubus/cmd/rubus/e2e/harness"

	"golang.org/x/crypto/ssh"
)

// itsHost prints what makes a board that one host, a fact a line, as the system itself has it.
const itsHost = `uname -n
systemd-id128 machine-id
cut -d' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub
sha256sum </etc/ssh/ssh_host_ed25519_key`

// itsIdentity is itsHost, and more of what it was given.
const itsIdentity = itsHost + `
stat -c '%a %U' /etc/ssh/ssh_host_ed25519_key
cut -d' ' -f 1,2 /etc/ssh/ssh_host_ecdsa_key.pub
cat /root/.ssh/authorized_keys
stat -c '%a %U' /root/.ssh/authorized_keys
cat /etc/motd
cat /etc/app/token
stat -c '%a %U:%G' /etc/app/token
getent hosts "$(uname -n)" | tr -s ' '`

// Names of the lines of itsIdentity.
const (
	hasHostname = iota
	hasMachineID
	hasHostKey
	hasPrivateDigest
	hasPrivateMode
	hasOtherHostKey
	hasKeys
	hasOwnKey
	hasKeysMode
	hasMotd
	hasToken
	hasTokenMode
	hasAddress
	identityLines
)

const (
	doorSerial = "b8aaaa01"
	labKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICm6J7xvxe+eWJNKCbOJw99P+Jdan1EblMd0d8ntaBxl admin@lab"
)

// ownKey is a key that only one board's admin has.
func ownKey(board string) string {
	seed := sha256.Sum256([]byte(board))
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		panic(err) // never: it is one
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " admin@" + board
}

// identities is a site whose boards have identities: bench, and door beside it.
type identities struct {
	s           *site
	bench, door []string // what itsIdentity printed
}

// addSSH makes an image "ssh" of the golden one, with a place for ssh host keys.
func (s *site) addSSH() {
	s.t.Helper()
	recipe := filepath.Join(s.dir, "recipe")
	must(s.t, os.MkdirAll(filepath.Join(recipe, "ssh"), 0o755))
	must(s.t, os.WriteFile(filepath.Join(recipe, "ssh/sshd_config"), nil, 0o644))
	must(s.t, os.WriteFile(filepath.Join(recipe, "recipe.yaml"), []byte("from: lab\nsteps: [{copy: {from: ssh, to: /etc/ssh}}]\n"), 0o644))
	s.must("image", "build", "ssh", filepath.Join(recipe, "recipe.yaml"), "--tag")
}

// identities lists two boards of the image "ssh", each with a secret of its own.
func (s *site) identities(bench string) *identities {
	s.t.Helper()
	for _, name := range []string{"bench", "door"} {
		must(s.t, os.WriteFile(filepath.Join(s.dir, name+".token"), []byte("t0ken-of-"+name+"\n"), 0o600))
	}
	s.devices(`version: 1
defaults:
  image: ssh
  vars: {site: north}
  authorized_keys: {root: "` + labKey + `"}
  files: [{path: /etc/motd, template: "{{.Name}} {{.Serial}} {{.MAC}} of {{.Vars.site}}\n"}]
devices:
  - {serial: ` + bench + `, name: bench, authorized_keys: {root: "` + ownKey("bench") + `"}, files: [{path: /etc/app/token, secret: ` + s.dir + `/bench.token}]}
  - {serial: ` + doorSerial + `, name: door, authorized_keys: {root: "` + ownKey("door") + `"}, files: [{path: /etc/app/token, secret: ` + s.dir + `/door.token}]}
`)
	return &identities{s: s}
}

// otherBoard is a board that boots while the first one runs.
type otherBoard struct {
	mayBoot func()
	done    chan struct{}
	printed []string
	err     error
}

// otherBoard starts door as soon as it may boot: over ends the turn of the first board.
func (i *identities) otherBoard(over func()) *otherBoard {
	start := make(chan struct{})
	o := &otherBoard{done: make(chan struct{})}
	o.mayBoot = sync.OnceFunc(func() { over(); close(start) })
	ended := make(chan struct{})
	i.s.t.Cleanup(func() { close(ended); <-o.done })
	go func() {
		defer close(o.done)
		select {
		case <-start:
		case <-ended: // the first board never came that far
			return
		}
		booting <- struct{}{}
		mine := sync.OnceFunc(func() { <-booting })
		defer mine()
		_, o.printed, o.err = i.s.emulate("door.log", mine, []string{
			isRunning, itsIdentity,
		}, "--interface", bridge, "--serial", doorSerial, "--timeout", "15m")
	}()
	return o
}

// differ wants the boards to be two hosts, each with what devices.yaml gives it.
func (i *identities) differ(bench string, door *otherBoard) {
	t := i.s.t
	t.Helper()
	<-door.done
	must(t, door.err)
	printed := door.printed
	i.bench, i.door = strings.Split(bench, "\n"), strings.Split(printed[1], "\n")
	if len(i.bench) != identityLines || len(i.door) != identityLines || printed[0] != "running" {
		t.Fatalf("the boards print\n%s\nand\n%s", bench, strings.Join(printed, "\n"))
	}
	for _, n := range []int{hasHostname, hasMachineID, hasHostKey, hasPrivateDigest, hasOtherHostKey, hasOwnKey, hasMotd, hasToken, hasAddress} {
		if i.bench[n] == i.door[n] {
			t.Errorf("both boards have %q", i.bench[n])
		}
	}
	for name, is := range map[string][]string{"bench": i.bench, "door": i.door} {
		want := map[int]string{
			hasHostname: name, hasPrivateMode: "600 root", hasKeys: labKey, hasOwnKey: ownKey(name), hasKeysMode: "600 root",
			hasToken: "t0ken-of-" + name, hasTokenMode: "600 root:root", hasAddress: "127.0.1.1 " + name,
		}
		for n, w := range want {
			if is[n] != w {
				t.Errorf("%s prints %q, not %q", name, is[n], w)
			}
		}
	}
	if want := "door " + doorSerial + " b8:27:eb:aa:aa:01 of north"; i.door[hasMotd] != want {
		t.Errorf("the template became %q, not %q", i.door[hasMotd], want)
	}
	i.s.endedBy("door.log", "reboot: Power down")
}

// endedBy wants a board's console to end with what the kernel says last.
func (s *site) endedBy(log, last string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, log))
	must(s.t, err)
	if !strings.Contains(string(text), last) {
		s.t.Errorf("%s does not end with %q:\n%s", log, last, harness.LastLines(string(text), 20))
	}
}

// Boards of one image are two hosts; nothing of that comes into a layer or is called a
// change of theirs; and they stay who they are after a reset.
func TestIdentity(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := tinyRoot(t, s.dir, "1")
	for name, text := range map[string]string{
		"etc/ssh/sshd_config": "", "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "root/.profile": "", "etc/hosts": "127.0.0.1 localhost\n", "etc/machine-id": "",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	s.must("image", "import", "ssh", root)
	s.router(onePool)
	const bench = "b8123456"
	s.identities(bench)
	s.serve()
	boots := func(serial string) map[string]string {
		t.Helper()
		s.must("simulate", "--interface", bridge, "--serial", serial, "--model", "3b")
		slots := s.record(serial).Slots
		is := map[string]string{}
		for _, name := range []string{
			"etc/hostname", "etc/machine-id", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "etc/ssh/ssh_host_ecdsa_key",
			"etc/app/token", "etc/motd", "etc/hosts",
		} {
			text, err := os.ReadFile(filepath.Join(s.root(serial, slots[len(slots)-1].N), name))
			must(t, err)
			is[name] = string(text)
		}
		return is
	}
	one, door := boots(bench), boots(doorSerial)
	for name := range one {
		if one[name] == door[name] || door[name] == "" {
			t.Errorf("/%s of one is %q, of the other %q", name, one[name], door[name])
		}
	}
	known := s.must("device", "known-hosts", "door")
	_, hosts, key, _, _, err := ssh.ParseKnownHosts([]byte(known))
	if err != nil || hosts[0] != "door" || !strings.HasPrefix(door["etc/ssh/ssh_host_ed25519_key.pub"], strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))) {
		t.Errorf("known_hosts has %q (%v), the board %q", known, err, door["etc/ssh/ssh_host_ed25519_key.pub"])
	}

	// A copy of a secret is one, whatever is to be included.
	at := s.root(doorSerial, 1)
	must(t, os.WriteFile(filepath.Join(at, "root/copy"), []byte(door["etc/app/token"]), 0o644))
	must(t, os.WriteFile(filepath.Join(at, "root/work"), []byte("work"), 0o644))
	var diff struct {
		Identity []string
		Files    []struct{ Path string }
	}
	must(t, json.Unmarshal([]byte(s.must("device", "diff", "door", "--json")), &diff))
	for _, f := range diff.Files {
		if _, ok := door[f.Path]; ok {
			t.Errorf("the board is said to have changed /%s", f.Path)
		}
	}
	if len(diff.Identity) < len(door) {
		t.Errorf("of its identity it has %q", diff.Identity)
	}
	var made struct {
		LeftOut []struct{ Path, Why string } `json:"left_out"`
	}
	must(t, json.Unmarshal([]byte(s.must("device", "commit", "door", "of-door", "--include", "/", "--json")), &made))
	why := map[string]string{}
	for _, l := range made.LeftOut {
		why[l.Path] = l.Why
	}
	for _, p := range []string{"etc/app/token", "root/copy", "etc/ssh/ssh_host_ed25519_key"} {
		if why[p] != "secret" {
			t.Errorf("/%s came into an image: %v", p, made.LeftOut)
		}
	}
	s.noSecretBelow(filepath.Join(s.state, "images/layers"), door["etc/app/token"], one["etc/app/token"])
	if found, err := filepath.Glob(filepath.Join(s.state, "images/layers/*/tree/root/work")); err != nil || len(found) != 1 {
		t.Errorf("the board's work is in the layers %q: %v", found, err)
	}

	s.must("device", "reset", "door", "--yes")
	again := boots(doorSerial)
	for name, was := range door {
		if again[name] != was {
			t.Errorf("after a reset /%s holds %q, not %q", name, again[name], was)
		}
	}
	slots := s.record(doorSerial).Slots
	if _, err := os.Stat(filepath.Join(s.root(doorSerial, slots[len(slots)-1].N), "root/work")); err == nil {
		t.Error("nothing was reset")
	}
}

// noSecretBelow wants no file of a tree to hold a secret.
func (s *site) noSecretBelow(dir string, secrets ...string) {
	s.t.Helper()
	must(s.t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		for _, secret := range append(secrets, "OPENSSH PRIVATE KEY") {
			if strings.Contains(string(text), strings.TrimSpace(secret)) {
				s.t.Errorf("%s holds a secret", p)
			}
		}
		return err
	}))
}
