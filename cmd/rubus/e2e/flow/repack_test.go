package flow

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/record"
)

// repack builds a package anew of what a root has installed of it: its files, conffiles,
// maintainer scripts and triggers, with another version and a file that says so.
const repack = `
root=$1 name=$2 more=$3 repo=$4
info=$root/var/lib/dpkg/info
arch=
[ -e $info/$name.list ] || arch=:arm64
tree=$(mktemp -d $repo/tree.XXXXXX)
chmod 755 $tree
mkdir $tree/DEBIAN
while read -r f; do
    [ -d "$root$f" ] || [ ! -e "$root$f" -a ! -L "$root$f" ] || echo ".$f"
done <$info/$name$arch.list | tar -C $root -cT - | tar -C $tree -x
for f in preinst postinst prerm postrm conffiles triggers shlibs; do
    [ ! -e $info/$name$arch.$f ] || cp -p $info/$name$arch.$f $tree/DEBIAN/$f
done
mkdir -p $tree/usr/share/$name
echo $more >$tree/usr/share/$name/version
awk -v name=$name -v more=$more '
    /^Package: / { ours = $2 == name }
    !ours || /^Status:/ { next }
    /^[^ ]/ { conffiles = /^Conffiles:/ }
    conffiles { next }
    /^Version:/ { $0 = $0 "+" more }
    NF { print }' $root/var/lib/dpkg/status >$tree/DEBIAN/control
(cd $tree && find usr lib -type f 2>/dev/null | xargs md5sum >DEBIAN/md5sums)
dpkg-deb -Zgzip --root-owner-group -b $tree $repo/${name}_$more.deb
rm -r $tree`

// repacked puts the versions 1 and 2 of packages of the golden root into a directory.
func (s *site) repacked(repo string, names ...string) {
	s.t.Helper()
	for _, name := range names {
		for _, more := range []string{"1", "2"} {
			if out, err := exec.CommandContext(s.t.Context(), "sh", "-euc", repack, "repack", shared.Golden, name, more, repo).CombinedOutput(); err != nil {
				s.t.Fatalf("%s: %v\n%s", name, err, out)
			}
		}
	}
}

const (
	// itsScripted are packages of the system that have maintainer scripts, a unit, conffiles and a
	// trigger: what they are, what their scripts made, that the unit is off, and what libraries programs find.
	itsScripted = `dpkg --audit; dpkg-query -W -f='${Package} ${Version} ${db:Status-Status}\n' cron libpopt0 | sed 's/ [^ ]*+/ /'
cat /usr/share/cron/version /usr/share/libpopt0/version; systemctl is-enabled cron 2>/dev/null; stat -c '%G %a' /usr/bin/crontab
cd / && md5sum -c --quiet /var/lib/dpkg/info/cron.md5sums /var/lib/dpkg/info/libpopt0*.md5sums && echo clean
ldconfig -p | grep -o 'libours.so.0 .*'`
	// ownLibrary puts a library of another name, as long as the first, to where $1 says.
	ownLibrary = `sed 's/libpopt\.so\.0/'$2'.so.0/' /usr/lib/aarch64-linux-gnu/libpopt.so.0.0.2 >$1/$2.so.0.0.2; ldconfig`
)

// A board upgrades real packages, whose scripts run and whose trigger makes the cache of libraries
// anew, switches a unit off and has a library of its own; its image has one of them newer. What scripts
// made is carried over like files, the board's packages and its library are found, and undone it is as it was.
func TestRebaseOfScripts(t *testing.T) {
	t.Parallel()
	const serial = "b8123456"
	s := newSite(t)
	s.useGolden()
	repo := filepath.Join(s.dir, "recipe/repo")
	must(t, os.MkdirAll(repo, 0o755))
	s.repacked(repo, "cron", "libpopt0")
	s.build("scripted", `from: lab
steps:
  - copy: {from: repo, to: /opt/repo}
`)
	s.router(onePool)
	s.devices("version: 1\ndefaults: {image: scripted}\ndevices:\n  - {serial: " + serial + "}\n")
	s.serveWith(shared.Plain)
	board := s.newBoard("3b", serial, parseSerial(t, serial).PiMAC().String())
	runs := func(slot int, script string, args ...string) string {
		t.Helper()
		args = append([]string{s.root(serial, slot), "sh", "-c", script, "sh"}, args...)
		out, err := exec.CommandContext(t.Context(), filepath.Join(shared.Scripts, "in-root"), args...).Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	board.boot("10.77.0.20")
	if out := runs(1, `dpkg -i /opt/repo/cron_1.deb /opt/repo/libpopt0_1.deb 2>&1`); !strings.Contains(out, "Processing triggers for libc-bin") {
		t.Errorf("no trigger ran:\n%s", out)
	}
	runs(1, `systemctl disable cron 2>/dev/null`)
	runs(1, ownLibrary, "/usr/local/lib", "libours")
	const found = "clean\nlibours.so.0 (libc6,AArch64) => /usr/local/lib/libours.so.0"
	before := "cron 1 installed\nlibpopt0 1 installed\n1\n1\ndisabled\ncrontab 2755\n" + found
	if got := runs(1, itsScripted); got != before {
		t.Fatalf("the board has\n%s\nnot\n%s", got, before)
	}
	board.off()

	s.build("scripted", `from: scripted@1
steps:
  - run: dpkg -i /opt/repo/cron_2.deb
  - run: `+strings.NewReplacer("$1", "/usr/lib/aarch64-linux-gnu", "$2", "libnext").Replace(ownLibrary)+`
`)
	s.must("device", "rebase", serial, "scripted@2", "--apply", "--yes")
	board.boot("10.77.0.20")
	move := s.record(serial).Move
	if move == nil || move.State != record.MoveTrial {
		t.Fatalf("the board's move is %+v", move)
	}
	if got, want := runs(move.Slot, itsScripted), "cron 2 installed\nlibpopt0 1 installed\n2\n1\ndisabled\ncrontab 2755\n"+found; got != want {
		t.Errorf("carried over, the board has\n%s\nnot\n%s", got, want)
	}
	board.off()

	s.must("device", "rebase", "--batch", "1", "--undo", "--yes")
	board.boot("10.77.0.20")
	if got := runs(move.Former, itsScripted); got != before {
		t.Errorf("undone, the board has\n%s\nnot\n%s", got, before)
	}
}
