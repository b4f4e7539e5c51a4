package flow

import (
	"crypto/md5" //nolint:gosec // it is what packages are checked with
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rubus/boot/batch"
	"rubus/boot/record"
)

// pack builds a Debian package with a file that says its version, one that only this
// version has, and a configuration file that is the same in all.
func pack(t *testing.T, repo, name, version, depends string) {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"usr/share/" + name + "/version":         version + "\n",
		"usr/share/" + name + "/only-" + version: "nobody else has it\n",
		"etc/" + name + ".conf":                  name + " as it is delivered\n",
		"DEBIAN/conffiles":                       "/etc/" + name + ".conf\n",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	about := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a test\n", name, version)
	if depends != "" {
		about += "Depends: " + depends + "\n"
	}
	must(t, os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(about), 0o644))
	deb := name + "_" + version + "_all.deb"
	script := `cd "$1"; find usr -type f | xargs md5sum >DEBIAN/md5sums; chmod 755 . DEBIAN; exec dpkg-deb --root-owner-group -b . "$2"`
	if out, err := exec.CommandContext(t.Context(), "sh", "-ec", script, "pack", dir, filepath.Join(repo, deb)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// usePackages gives the site the image "pkg" over the golden one, with the packages tool and
// mine, and more of them to be installed.
func (s *site) usePackages() {
	s.t.Helper()
	dir := filepath.Join(s.dir, "recipe")
	repo := filepath.Join(dir, "repo")
	must(s.t, os.MkdirAll(repo, 0o755))
	pack(s.t, repo, "extra", "1", "tool (>= 1)")
	for _, name := range []string{"tool", "mine", "shared"} {
		for _, version := range []string{"1", "2", "3"} {
			pack(s.t, repo, name, version, "")
		}
	}
	// A place for ssh host keys.
	must(s.t, os.MkdirAll(filepath.Join(dir, "ssh"), 0o755))
	must(s.t, os.WriteFile(filepath.Join(dir, "ssh/sshd_config"), nil, 0o644))
	s.build("pkg", `from: lab
steps:
  - copy: {from: ssh, to: /etc/ssh}
  - copy: {from: repo, to: /opt/repo}
  - run: dpkg -i /opt/repo/tool_1_all.deb /opt/repo/mine_1_all.deb
`)
}

// build makes the next version of an image, whose tag moves to it. The store is all tests':
// each has a name of its own there.
func (s *site) build(image, text string) {
	s.t.Helper()
	recipe := filepath.Join(s.dir, "recipe/recipe.yaml")
	must(s.t, os.WriteFile(recipe, []byte(text), 0o644))
	script := `. "$0/lib.sh"; register_arm64; exec "$@"`
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", script, shared.Scripts, shared.Plain, "image", "build", image, recipe, "--tag")
	if out := s.command(cmd); out.code != 0 {
		s.t.Fatalf("the image is not built: %s%s", out.stdout, out.stderr)
	}
}

// damaged lists the files of packages, in a root, that are not what their packages brought.
func damaged(t *testing.T, root string) (bad []string) {
	t.Helper()
	lists, err := filepath.Glob(filepath.Join(root, "var/lib/dpkg/info/*.md5sums"))
	must(t, err)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
			if !ok {
				t.Fatalf("a line of %s: %q", list, line)
			}
			if fileSum(filepath.Join(root, name)) != sum {
				bad = append(bad, name)
			}
		}
	}
	if len(lists) < 100 {
		t.Errorf("only %d packages have lists", len(lists))
	}
	slices.Sort(bad)
	return bad
}

func fileSum(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	h := md5.New() //nolint:gosec // as above
	if _, err := io.Copy(h, f); err != nil {
		return err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}

const (
	apt = `DEBIAN_FRONTEND=noninteractive apt-get -qq `
	// itsPackages are the packages of the test as dpkg knows them.
	itsPackages = `dpkg-query -W -f='${Package} ${Version} ${db:Status-Status}\n' extra mine shared tool`
	itsVersions = `cd /usr/share && cat extra/* mine/* shared/* tool/* | grep -v nobody | tr '\n' ' '; ls extra mine shared tool | grep only- | tr '\n' ' '`
	itsSums     = `cd / && cat /var/lib/dpkg/info/extra.md5sums /var/lib/dpkg/info/mine.md5sums /var/lib/dpkg/info/shared.md5sums /var/lib/dpkg/info/tool.md5sums | md5sum -c --quiet && echo clean`
	itsEdits    = `cat /etc/tool.conf /srv/data/file /etc/motd; ls /etc/issue.net 2>&1 | tail -c 26`
)

// meeting gives a command in which a board waits until its connection, which comes by met, is
// closed.
func (s *site) meeting(port string) (command string, met <-chan net.Conn) {
	s.t.Helper()
	var l net.Listener
	must(s.t, s.host.do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(hostAddr, port))
		return err
	}))
	s.t.Cleanup(func() { l.Close() })
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return fmt.Sprintf(`bash -c 'cat </dev/tcp/%s/%s'`, hostAddr, port), conns
}

// A board installs, upgrades and edits; its image gets a newer version with the same
// packages upgraded. It reboots and is carried over, the same host as before, and by the word of
// dpkg, apt and all the packages' sums it is whole. Undone, it boots what it had.
func TestRebaseOfPackages(t *testing.T) {
	t.Parallel()
	const serial = "b8123456"
	s := newSite(t)
	s.useGolden()
	s.usePackages()
	s.router(onePool)
	s.devices("version: 1\ndefaults: {image: pkg}\ndevices:\n  - {serial: " + serial + "}\n")
	s.serveWith(shared.Plain)
	where := []string{"--interface", bridge, "--serial", serial, "--timeout", "25m"}
	const (
		work = `[ -d /srv/data ] || {
` + apt + `install /opt/repo/extra_1_all.deb /opt/repo/shared_1_all.deb /opt/repo/mine_3_all.deb
echo 'edited on the board' >>/etc/tool.conf; mkdir /srv/data; echo of the board >/srv/data/file; echo hello >/etc/motd; rm /etc/issue.net; sync
} >/dev/null 2>&1`
		whole = `dpkg --audit && ` + apt + `check && echo whole`
	)
	order, met := s.meeting("4711")
	commands := []string{isRunning, itsHost, itsBoots, work, itsReport, whole, itsPackages, itsVersions, itsSums, itsEdits, order, speaksUp}
	type result struct {
		printed []string
		err     error
	}
	ended, gone := make(chan result, 1), make(chan struct{})
	turn := waitTurn(t)
	t.Cleanup(func() { <-gone })
	go func() {
		defer close(gone)
		_, printed, err := s.emulate("carried.log", turn, commands, append(where, "--reboot")...)
		ended <- result{printed, err}
	}()
	var before []string
	var r result
	for boots, up := 0, true; up; {
		select {
		case c := <-met:
			if boots++; boots == 1 { // all is installed, and the board waits
				before = damaged(t, s.root(serial, 1))
				s.orderRebase()
			}
			c.Close()
		case r = <-ended:
			up = false
		}
	}
	must(t, r.err)
	n := len(commands)
	if len(r.printed) != 2*n {
		t.Fatalf("the board prints %q", r.printed)
	}
	first, second := r.printed[:n], r.printed[n:]
	move := s.record(serial).Move
	if move == nil {
		t.Fatalf("the board was not moved: it prints %q", second)
	}
	s.rebooted(serial, move.Slot, "carried.log", first, second)
	had := "extra 1 installed\nmine 3 installed\nshared 1 installed\ntool 1 installed"
	edits := "tool as it is delivered\nedited on the board\nof the board\nhello\nNo such file or directory"
	prints := func(what string, got []string, want ...string) {
		t.Helper()
		for i, w := range want {
			if strings.TrimSpace(got[i]) != w {
				t.Errorf("%s, the board prints %q, not %q", what, got[i], w)
			}
		}
	}
	prints("before", first[4:], "rubus.boot", "whole", had, "1 3 1 1 only-1 only-3 only-1 only-1", "clean", edits, "")
	prints("carried over", second[4:], "rubus.boot", "whole", "extra 1 installed\nmine 3 installed\nshared 2 installed\ntool 2 installed",
		"1 3 2 2 only-1 only-3 only-2 only-2", "clean", edits, "")
	if after := damaged(t, s.root(serial, move.Slot)); !slices.Equal(after, before) {
		t.Errorf("files of packages that are not theirs: before %q, after %q", before, after)
	}
	if board := s.board(serial); board.Running.String() != "pkg@2" || board.Move == nil || board.Move.State != string(record.MoveGood) {
		t.Errorf("the board runs %s, its move is %+v", board.Running, board.Move)
	}
	if text := s.must("device", "rebase", "--status"); !strings.Contains(text, "pkg@2  done") {
		t.Errorf("the batch:\n%s", text)
	}
	if text := s.must("device", "log", serial); !strings.Contains(text, "was carried over to pkg@2") {
		t.Errorf("the log of the boot does not speak of it:\n%s", text)
	}

	s.must("device", "rebase", "--batch", "1", "--undo", "--yes")
	_, out := s.simulate(waitTurn(t), []string{isRunning, itsHost, itsReport, whole, itsPackages, itsVersions, itsSums, itsEdits, speaksUp}, where...)
	prints("undone", out, "running", first[1], "rubus.boot", "whole", had, "1 3 1 1 only-1 only-3 only-1 only-1", "clean", edits)
	if after := damaged(t, s.root(serial, s.record(serial).Move.Former)); !slices.Equal(after, before) {
		t.Errorf("files of packages that are not theirs: before %q, undone %q", before, after)
	}
	if m := s.board(serial).Move; m == nil || m.State != string(record.MoveUndone) {
		t.Errorf("undone, the move is %+v", m)
	}
}

// orderRebase makes the next version of "pkg", and orders the board, which is up, to move there.
func (s *site) orderRebase() {
	s.t.Helper()
	s.build("pkg", `from: pkg@1
steps:
  - run: dpkg -i /opt/repo/tool_2_all.deb /opt/repo/shared_2_all.deb /opt/repo/mine_2_all.deb
`)
	var b struct{ Batch batch.Batch }
	text := s.must("device", "rebase", "--all", "pkg@2", "--apply", "--yes", "--json")
	must(s.t, json.Unmarshal([]byte(text), &b))
	if m := b.Batch.Members; len(m) != 1 || m[0].State != string(record.MovePending) || !m[0].Reports {
		s.t.Fatalf("asked for while the board is up: %s", text)
	}
}
