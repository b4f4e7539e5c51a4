package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/cmd/internal/control"
	"rubus/cmd/internal/doctor"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/nfsexport/xdr"
)

// kernelServer is a server machine whose kernel serves the boards' roots.
type kernelServer struct {
	*serverMachine
	tools, etc string
}

const kernelConfig = "nfs: {backend: kernel, accept_unauthenticated_handles: true}\n"

// newKernelServer makes a machine with the host's NFS server, which has an export
// of its own; it is off. Its state is a file system of its own, and what a host
// keeps of its exports outlives its power.
func (l *lab) newKernelServer() *kernelServer {
	l.t.Helper()
	cmd := exec.Command(shared.Scripts + "/peer-tools")
	cmd.Stderr = l.t.Output()
	out, err := cmd.Output()
	must(l.t, err)
	machine := l.newServerMachine(10)
	// A file system that keeps quotas of boards: nfsd cannot.
	harness.Run(l.t, "mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", machine.disk)
	harness.Run(l.t, "tune2fs", "-E", "mount_opts=prjquota", machine.disk)
	s := &kernelServer{machine, strings.TrimSpace(string(out)), filepath.Join(l.dir, "etc")}
	must(l.t, os.MkdirAll(s.etc+"/exports.d", 0o755))
	l.writeConfig("kernel.yaml", kernelConfig)
	s.state, s.config = "/mnt/disk", l.dir+"/kernel.yaml"
	s.options = []string{"--share", s.etc, "--share", s.tools}
	return s
}

// on starts the machine and gives it what a host has on its disk.
func (s *kernelServer) on() {
	s.l.t.Helper()
	s.serverMachine.on()
	s.m.all(fmt.Sprintf("mkdir -p /etc/exports.d /mnt/other; mount --bind %s/exports.d /etc/exports.d; echo theirs >/mnt/other/file", s.etc))
}

// startHost starts the host's NFS server as its own boot does: before rubus.
func (s *kernelServer) startHost() {
	s.l.t.Helper()
	s.m.all(fmt.Sprintf("%s/scripts/nfsd-serve %s; grep -qx 8 /proc/fs/nfsd/threads", s.m.share, s.tools))
}

// useTools has the machine's shell find the host's tools.
func (s *kernelServer) useTools() {
	s.l.t.Helper()
	s.m.do(fmt.Sprintf("export PATH=%[1]s/usr/sbin:%[1]s/sbin:$PATH LD_LIBRARY_PATH=$(echo %[1]s/usr/lib/*-linux-gnu)", s.tools))
}

// refuses wants rubus not to start, and to say why.
func (s *kernelServer) refuses(options string, words ...string) {
	s.l.t.Helper()
	out, err := s.m.try(fmt.Sprintf("timeout 60 %s serve %s 2>&1", s.command(), options))
	for _, w := range words {
		if err == nil || !strings.Contains(out, w) {
			s.l.t.Errorf("serve %s: %v, and %q is missing in:\n%s", options, err, w, out)
		}
	}
}

// status is what rubus status says.
func (s *kernelServer) status() (st control.Status) {
	s.l.t.Helper()
	must(s.l.t, json.Unmarshal([]byte(s.rubus("status --json 2>/dev/null")), &st))
	return st
}

// phase waits until a board's phase is one of those.
func (s *kernelServer) phase(b *board, want string) {
	s.l.t.Helper()
	s.l.until(30*time.Second, "the board is "+want, func() error {
		for _, x := range s.status().Boards {
			if x.Serial == b.serial && x.Phase == want {
				return nil
			}
		}
		return fmt.Errorf("the boards are %+v", s.status().Boards)
	})
}

// doctor wants "rubus doctor" to find the host's NFS server there, and its ports not
// in anybody's way.
func (s *kernelServer) doctor() {
	s.l.t.Helper()
	out, _ := s.m.try(s.command() + "doctor --listen 0 --json 2>/dev/null")
	var r struct{ Findings []doctor.Finding }
	must(s.l.t, json.Unmarshal([]byte(out), &r))
	nfs := 0
	for _, f := range r.Findings {
		if f.Check == "nfs" {
			nfs++
		}
		if f.Level == doctor.Failure && (f.Check == "nfs" || f.Check == "ports") {
			s.l.t.Errorf("the doctor finds %+v", f)
		}
	}
	if rules := s.rubus("doctor --firewall"); nfs != 2 || !strings.Contains(rules, "tcp dport { 111, 2049, 20048 }") {
		s.l.t.Errorf("the doctor has %d findings about NFS, and the rules are\n%s", nfs, rules)
	}
}

// mountSoon mounts a board's root as an initramfs does, which tries again: its
// address is another than its firmware's, which the server has to see first. Without
// -w, mount(8) tries a mount that is refused once more, read-only, and may succeed: "rw"
// among the options does not keep it from that.
func (m *machine) mountSoon(server, path string) {
	m.t.Helper()
	m.all(fmt.Sprintf(`mkdir -p /mnt/root
for try in {1..60}; do
	! mount -w -i -t nfs -o addr=%[1]s,vers=3,proto=tcp,mountproto=tcp,nolock,hard,rw,timeo=50 %[1]s:%[2]s /mnt/root || exit 0
	sleep 1
done
exit 1`, server, path))
}

// TestKernelBackend: the host's nfsd serves boards' roots, over a kill of rubus and
// a power cut of the machine; what rubus refuses; and what of boards it cannot keep
// from each other, which our own server does.
func TestKernelBackend(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n  - {serial: b8334455, quota: 8MiB}\n")
	tree := goldenTree(t, filepath.Join(l.dir, "golden"))
	s := l.newKernelServer()
	s.on()
	t.Cleanup(func() {
		if t.Failed() {
			tables, err := s.m.try("cat /var/lib/nfs/etab /etc/exports.d/* /proc/net/rpc/{auth.unix.ip,nfsd.export,nfsd.fh}/content; grep rubus: /proc/self/mountinfo; dmesg | tail -n 20")
			t.Logf("what the server's kernel knows (%v):\n%s", err, tables)
		}
	})

	// What is missing is said, one thing at a time.
	s.refuses("", "there is no exportfs on this host", "apt install nfs-kernel-server")
	s.useTools()
	s.refuses("", "nfsd is not loaded", "apt install nfs-kernel-server")
	s.m.all("mount -t nfsd nfsd /proc/fs/nfsd")
	s.refuses("", "it is not started", "systemctl enable --now nfs-server")
	s.m.all("mkdir /mnt/disk/below; echo '/mnt/other *(ro,insecure,no_subtree_check,fsid=7)' >/etc/exports")
	s.startHost()
	s.m.all("exportfs -o ro,no_subtree_check,fsid=8 10.1.2.3:/run") // by hand, in no file
	s.refuses("--state /mnt/disk/below", "must be a file system of its own", "a directory of another")
	s.m.all("rm -r --one-file-system /mnt/disk/below")
	// Somebody's own, below the roots even: they have another fsid.
	s.m.all("mkdir -p /mnt/disk/roots/theirs; exportfs -o ro,no_subtree_check,fsid=9 10.1.2.3:/mnt/disk/roots/theirs")
	theirs := s.m.all("exportfs -s | sort")
	if out := s.rubus("check 2>&1; true"); strings.Contains(out, "does not start") {
		t.Errorf("check, where all is there: %s", out)
	}
	s.doctor()

	s.rubus("image import lab " + tree)
	s.launch()
	victim, thief := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101), l.board("3b", "b8334455", "b8:27:eb:33:44:55", 102)
	server, path := victim.powerOn()
	if want := "/mnt/disk/roots/b8123456/1"; path != want {
		t.Errorf("the board is told to mount %s, want %s", path, want)
	}
	s.phase(victim, "tftp")
	m := l.machine(victim.serial.String(), victim.mac, victim.os)
	m.mountSoon(server, path)
	s.phase(victim, "mounted")
	m.hold()
	m.all("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/root/sbin/init >/dev/null; echo secret of a board >/mnt/root/home/secret; sync")
	s.phase(victim, "running")
	if st := s.status(); len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "not isolated") || st.Boards[0].Up != "yes" || st.Boards[0].Address != l.addr(victim.os) {
		t.Errorf("the status is %+v", st)
	}
	if err := harness.Log(s.m.share+"/serve.log").Said(0, "boards are not isolated from each other"); err != nil {
		t.Errorf("the start: %v", err)
	}
	w := m.startWriter("home/log")
	if out, err := s.m.try(s.command() + "device snapshot b8123456 2>&1"); err == nil || !strings.Contains(out, "cannot say when the calls that it runs have ended") {
		t.Errorf("a snapshot of a board at work: %v\n%s", err, out)
	}

	// kill -9: nothing of what is exported changes.
	before := s.m.all("exportfs -s; cat /etc/exports.d/*; grep rubus: /proc/self/mountinfo")
	s.m.do("kill -KILL $rubus; wait $rubus; true")
	w.goesOn(time.Minute)
	// Other boards' handles are good for one server only.
	s.config = l.dir + "/none.yaml"
	s.refuses("", "nfs.backend is user now, and boards that may be up have their roots by kernel: b8123456")
	s.config = l.dir + "/kernel.yaml"
	s.launch()
	w.goesOn(time.Minute)
	// On the machine: what is written here it has in its cache as it was.
	s.m.all("echo 'nfs: {backend: user}' >" + s.config)
	out, err := s.m.try(s.command() + " reload 2>&1")
	if want := "nfs.backend: user is refused while boards are up, or may be: b8123456"; err == nil || !strings.Contains(out, want) {
		t.Errorf("reload: %v, and %q is missing in:\n%s", err, want, out)
	}
	w.goesOn(time.Minute)
	s.m.all("echo '" + strings.TrimSpace(kernelConfig) + "' >" + s.config)
	s.rubus("reload")
	if after := s.m.all("exportfs -s; cat /etc/exports.d/*; grep rubus: /proc/self/mountinfo"); after != before {
		t.Errorf("before the kill\n%s\nafter it\n%s", before, after)
	}

	forgery(t, s, victim, thief, true)
	usesUp(t, s, thief)
	w.goesOn(time.Minute)

	// Somebody takes the exports of a board away, and those of the file.
	s.m.all("exportfs -u " + l.addr(thief.os).String() + "/32:/mnt/disk/roots/b8334455/1; rm /etc/exports.d/*")
	l.until(20*time.Second, "the export is there again", func() error {
		if out := s.m.all("exportfs -s; cat /etc/exports.d/* || true"); strings.Count(out, "/mnt/disk/roots/b8334455/1") < 2 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	w.goesOn(time.Minute)

	// The server's power goes under the board. The host's NFS server is there first:
	// calls wait until the root is. What the kernel acknowledges of names a power cut
	// may take (docs/nfs-kernel.md), so all is on the disk before it: also what a call made that
	// was under way when the writer was told to stop. Without that its new file is gone,
	// and it is told ESTALE.
	m.all(`kill -STOP $writer
while grep -h '^State:' /proc/$writer/task/*/status | grep -qv stopped; do sleep 0.1; done`)
	s.m.all("sync")
	s.m.cut()
	s.on()
	s.useTools()
	s.m.all("mount -t nfsd nfsd /proc/fs/nfsd; echo '/mnt/other *(ro,insecure,no_subtree_check,fsid=7)' >/etc/exports")
	s.startHost()
	s.m.all("exportfs -o ro,no_subtree_check,fsid=8 10.1.2.3:/run; exportfs -o ro,no_subtree_check,fsid=9 10.1.2.3:/mnt/disk/roots/theirs")
	from := w.acks()
	m.do("kill -CONT $writer")
	// What an earlier run exported and no board needs is found, and ended.
	orphan := "10.9.9.9/32:/mnt/disk/roots/deadbeef/7"
	s.m.all("mkdir -p /mnt/disk/roots/deadbeef/7; exportfs -o rw,no_subtree_check,mountpoint,fsid=72756275:73000000:00000000:0000dead " + orphan + "; exportfs -s | grep deadbeef")
	l.until(30*time.Second, "the board calls before its root is there", func() error {
		if out := s.m.all("cat /proc/net/rpc/nfsd.fh/content"); !strings.Contains(out, "# ") || !strings.Contains(out, "0x75627572") {
			return fmt.Errorf("the kernel waits for %s", out)
		}
		return nil
	})
	// What was answered when the writer was stopped, it notes now.
	if n := w.acks(); n > from+1 {
		t.Errorf("a root that is not mounted took %d writes", n-from)
	}
	s.launch()
	w.goesOn(3 * time.Minute)
	l.until(20*time.Second, "the export of nobody is ended", func() error {
		if out := s.m.all("exportfs -s"); strings.Contains(out, "deadbeef") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	m.holds()
	m.want("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/root/home/secret", "secret of a board")
	t.Logf("%d acknowledged records, a kill and a power cut", w.end())

	// A board that is cut off: its root is unmounted and its export gone, and
	// nobody else's.
	for _, b := range []*board{victim, thief} {
		s.rubus("device stop --yes " + b.serial.String())
	}
	s.m.all("! grep rubus: /proc/self/mountinfo && ! grep /roots/ /etc/exports.d/*")
	// What the host's server lacks meanwhile is in the status.
	s.m.all("rpc.nfsd 0; touch /var/lib/nfs/etab")
	l.until(20*time.Second, "the status says that nfsd is not started", func() error {
		if all := s.status().Warnings; len(all) != 2 || !strings.Contains(all[1], "it is not started") {
			return fmt.Errorf("it says %q", all)
		}
		return nil
	})
	s.m.all("rpc.nfsd --no-nfs-version 4 8")
	s.m.do("kill $rubus; wait $rubus")

	// Our own server: it ends what is left of the kernel's, and says who has its ports.
	s.config = l.dir + "/none.yaml"
	s.refuses("", "port 2049/tcp on ", " is held by the kernel", "sudo systemctl disable --now nfs-server")
	s.m.all("[[ ! -e /etc/exports.d/rubus.exports ]]")
	if left := s.m.all("exportfs -s | sort"); left != theirs {
		t.Errorf("the host exported\n%s\nand now\n%s", theirs, left)
	}
	// The same handles, made for it.
	s.m.all("rpc.nfsd 0; kill $(pidof rpc.mountd)")
	s.refuses("", "is held by rpcbind (pid ", "sudo systemctl disable --now rpcbind.socket rpcbind")
	s.m.all("kill $(pidof rpcbind)")
	s.launch()
	forgery(t, s, victim, thief, false)
}

// usesUp has a board write until its quota of 8 MiB is used up: the host's file system
// says so, with nfsd in between, and takes no more and no less.
func usesUp(t *testing.T, s *kernelServer, b *board) {
	t.Helper()
	st, root := s.calls(b)
	defer st.close()
	file := makes(t, st, root, "big")
	const chunk = 16 << 10 // more is not taken by an nfsd with so little memory
	write := func(n int) uint32 {
		status, _ := st.nfs(procWrite, file, func(w *xdr.Writer) {
			w.Uint64(uint64(n) * chunk)
			w.Uint32(chunk)
			w.Uint32(2) // FILE_SYNC
			w.Opaque(make([]byte, chunk))
		})
		return status
	}
	n, status := 0, uint32(0)
	for ; status == 0 && n <= 8<<20/chunk; n++ {
		status = write(n)
	}
	const dquot = 69
	if status != dquot || n < 7<<20/chunk {
		t.Errorf("after %d writes of 16 KiB into a quota of 8 MiB: status %d, want %d", n, status, dquot)
	}
	if status := write(0); status != 0 {
		t.Errorf("writing in place when the quota is used up: status %d", status)
	}
	// Attributes to set: the size alone; no guard.
	status, _ = st.nfs(procSet, file, func(w *xdr.Writer) {
		for _, v := range []uint32{0, 0, 0, 1, 0, chunk, 0, 0, 0} {
			w.Uint32(v)
		}
	})
	if again := write(1); status != 0 || again != 0 {
		t.Errorf("cutting a file: status %d, and writing then: %d", status, again)
	}
}
