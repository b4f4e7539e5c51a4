package boot_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/quota"
	"rubus/boot/writes"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/nfs3"
	"rubus/overlay/projquota"
)

var projectsIn = flag.String("projects", "", "run TestProjectQuotasHere in this directory, whose file system has project quotas")

// On ext4 and xfs with project quotas the kernel keeps boards to what they may have.
// This machine's kernel may know none: it is done under Linux 6.1.
func TestProjectQuotas(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "boot.test")
	// Not this very program: its race detector does not run there.
	if out, err := exec.Command("go", "test", "-c", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the test: %v\n%s", err, out)
	}
	uml, err := filepath.Abs("../scripts/uml")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--timeout", "120", "--share", dir}
	for _, name := range []string{"ext4", "xfs"} {
		disk := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 400<<20)); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--ubd", disk)
	}
	script := fmt.Sprintf(`
mkfs.ext4 -q -O project,quota -E quotatype=prjquota /dev/ubda
mkfs.xfs -q /dev/ubdb
mkdir /mnt/ext4 /mnt/xfs /mnt/plain
mount -o prjquota /dev/ubda /mnt/ext4
mount -o prjquota /dev/ubdb /mnt/xfs
for fs in ext4 xfs; do
    %s -test.run '^TestProjectQuotasHere$' -test.v -projects /mnt/$fs
done
`, self)
	out, err := exec.Command(uml, append(args, "--", "sh", "-ec", script)...).CombinedOutput()
	if n := strings.Count(string(out), "--- PASS: TestProjectQuotasHere"); err != nil || n != 2 {
		t.Errorf("%d file systems are well, %v\n%s", n, err, out)
	}
}

// TestProjectQuotasHere is what TestProjectQuotas runs where there are project quotas.
func TestProjectQuotasHere(t *testing.T) {
	if *projectsIn == "" {
		return
	}
	l := newLabIn(t, *projectsIn)
	const mib = 1 << 20
	limit := nfsexport.Space{Bytes: 16 * mib, Files: 300}
	l.want.Devices[serialA].Quota = limit
	l.fleet.Apply(l.want)
	x, y := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	if x.Quota.Counts() {
		t.Fatal("the server counts, not the kernel")
	}
	use := func() quota.Use {
		t.Helper()
		st, _ := l.fleet.Board(serialA)
		if st.Quota == nil || st.Quota.Way != quota.Kernel || !st.Quota.Known {
			t.Fatalf("the quota is told as %+v", st.Quota)
		}
		return *st.Quota
	}
	fill := func(x nfsexport.Export, name string, n int) error {
		return os.WriteFile(filepath.Join(x.Dir, name), make([]byte, n*mib), 0o644)
	}
	refused := func(what string, err error) {
		t.Helper()
		// xfs says ENOSPC where ext4 says EDQUOT.
		if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// xfs frees what was removed a little later.
	soon := func(what string, f func() error) {
		t.Helper()
		err := f()
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = f() {
			unix.Sync()
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	empty := use()
	if empty.Limit != limit || empty.Used.Bytes > mib || empty.Full {
		t.Errorf("at first: %+v", empty)
	}
	// What a root file system's programs do stays possible: the upper and its work
	// directory are of one project.
	in := func(name string) string { return filepath.Join(x.Dir, name) }
	for _, err := range []error{
		os.Rename(in("etc"), in("etc2")), os.Rename(in("etc2"), in("etc")),
		os.Remove(in("etc/golden")), os.WriteFile(in("etc/golden"), []byte("mine"), 0o644),
		os.RemoveAll(in("etc")), os.Mkdir(in("etc"), 0o755),
		os.Rename(in("sbin/init"), in("etc/init")), os.Link(in("etc/init"), in("sbin/init")),
		os.Symlink("x", in("etc/link")), os.Rename(in("etc/link"), in("boot/link")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := fill(x, "a", 8); err != nil {
		t.Fatal(err)
	}
	refused("8 MiB more", fill(x, "b", 8))
	f, err := os.Create(in("b2")) // xfs gave up before the last block
	for err == nil {
		_, err = f.Write(make([]byte, 16<<10))
	}
	refused("more, little by little", errors.Join(err, f.Close()))
	if u := use(); u.Used.Bytes > limit.Bytes || u.Used.Bytes < 15*mib || !u.Full {
		t.Errorf("when it is full: %+v", u)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(x.Dir, &st); err != nil || int64(st.Blocks)*st.Bsize != limit.Bytes {
		t.Errorf("the board's disk has %d bytes, %v", int64(st.Blocks)*st.Bsize, err)
	}
	overNFS(t, x, limit.Bytes)
	if err := fill(y, "a", 40); err != nil {
		t.Errorf("another board: %v", err)
	}
	noRoomToImport(l)
	third, addr := mustSerial("10000003"), netip.MustParseAddr("10.77.0.52")
	l.want.Devices[third] = &boot.Device{Serial: third, Image: imageref.Ref{Name: "lab"}, Enabled: true, Quota: limit}
	l.fleet.Apply(l.want)
	l.link.set(func(k *link) { k.owners[addr] = third.PiMAC() })
	z := l.boots(third, third.PiMAC(), addr)
	defer l.fleet.Stop(context.WithoutCancel(t.Context()), third) //nolint:errcheck // the machine ends
	if err := fill(z, "a", 8); err != nil {
		t.Errorf("a third board: %v", err)
	}
	refused("more on the third board", fill(z, "b", 9))
	if err := errors.Join(os.Remove(in("b")), os.Remove(in("b2"))); err != nil {
		t.Error(err)
	}
	soon("there is room again", func() error { return fill(x, "c", 4) })
	err = nil
	for i := 0; err == nil && i < 400; i++ {
		err = os.WriteFile(in(fmt.Sprint("many-", i)), nil, 0o644)
	}
	refused("the 300th file", err)

	// Another limit holds at once, and after a restart.
	l.want.Devices[serialA].Quota = nfsexport.Space{Bytes: 64 * mib}
	l.fleet.Apply(l.want)
	if err := fill(x, "d", 20); err != nil {
		t.Errorf("with more: %v", err)
	}
	l.restart()
	if u := use(); u.Limit.Bytes != 64*mib || u.Used.Bytes < 30*mib {
		t.Errorf("after a restart: %+v", u)
	}
	refused("more than that", fill(x, "e", 50))

	// Mounted anew, overlayfs' work directory is another, and of the same project.
	if err := l.fleet.Stop(t.Context(), serialA); err != nil {
		t.Fatal(err)
	}
	x = l.boots(serialA, macA, addrA)
	for _, err := range []error{
		os.Remove(in("e")),
		os.Rename(in("boot"), in("boot2")), os.Rename(in("boot2"), in("boot")), os.WriteFile(in("etc/golden"), []byte("again"), 0o644),
		os.Mkdir(in("boot/firmware/cmdline.txt"), 0o755), os.Remove(in("boot/firmware/config.txt")),
	} {
		if err != nil {
			t.Error(err)
		}
	}

	// A reset takes no quota along, and a project that has nothing is used again.
	project := func(x nfsexport.Export) projquota.Project {
		t.Helper()
		p, err := projquota.Of(filepath.Join(x.Upper, "upper"))
		if err != nil || p == 0 {
			t.Fatalf("project %d, %v", p, err)
		}
		return p
	}
	was := project(x)
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	x = l.boots(serialA, macA, addrA)
	if project(x) == was {
		t.Errorf("the new root and the snapshot are both of project %d", was)
	}
	if u := use(); u.Used.Bytes > mib || u.Limit.Bytes != 64*mib {
		t.Errorf("after a reset: %+v", u)
	}
	snaps, err := l.fleet.Snapshots(serialA)
	if err != nil || len(snaps) != 1 {
		t.Fatalf("%d snapshots, %v", len(snaps), err)
	}
	if err := l.fleet.RemoveSnapshot(t.Context(), serialA, snaps[0].N); err != nil {
		t.Fatal(err)
	}
	soon("nothing is left of the project", func() error {
		used, _, err := projquota.Used(*projectsIn, was)
		if err == nil && used != (projquota.Space{}) {
			err = fmt.Errorf("it has %+v", used)
		}
		return err
	})

	// A board that is restored from a backup on such a file system is counted by the
	// kernel, too, and leaves the reserve free; and one that had something here.
	if err := errors.Join(fill(x, "a", 8), os.Symlink("a", in("link"))); err != nil {
		t.Fatal(err)
	}
	data, _ := l.backup(nil, nil)
	if err := l.fleet.Stop(t.Context(), serialA); err != nil { // one board stands on one root
		t.Fatal(err)
	}
	m := newLabIn(t, filepath.Join(*projectsIn, "new"))
	m.want.Devices[serialA].Quota = limit
	m.fleet.Apply(m.want)
	m.opt.Reserve = 1 << 60
	m.restart()
	if _, err := m.restoreBackup(data); !errors.Is(err, writes.ErrNoSpace) && !sharesBlocks(*projectsIn) {
		t.Errorf("a restore without room: %v", err)
	}
	m.opt.Reserve = 0
	m.restart()
	for _, what := range []string{"a board that is new", "one that has something"} {
		if _, err := m.restoreBackup(data); err != nil {
			t.Fatal(err)
		}
		z := m.boots(serialA, macA, addrA)
		if s, _ := m.fleet.Board(serialA); s.Quota == nil || s.Quota.Way != quota.Kernel || s.Quota.Used.Bytes < 8*mib || project(z) == 0 {
			t.Errorf("restored, %s: %+v", what, s.Quota)
		}
		if err := os.Rename(filepath.Join(z.Dir, "link"), filepath.Join(z.Dir, "etc/moved")); err != nil {
			t.Errorf("restored, %s: %v", what, err)
		}
		refused("more than its quota, restored", fill(z, "more", 12))
		if err := m.fleet.Stop(t.Context(), serialA); err != nil {
			t.Fatal(err)
		}
	}

	// An upper that has no project, as one made earlier, is counted by the server.
	if err := l.fleet.Stop(t.Context(), serialA); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"upper", "work"} {
		dir := filepath.Join(x.Upper, sub)
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	x = l.boots(serialA, macA, addrA)
	l.fleet.CountQuotas(t.Context())
	if s, _ := l.fleet.Board(serialA); s.Quota == nil || s.Quota.Way != quota.Server || !x.Quota.Counts() {
		t.Errorf("an upper without a project: %+v", s.Quota)
	}
}

// noRoomToImport imports what would take the reserve: it is refused, and leaves nothing.
func noRoomToImport(l *lab) {
	l.Helper()
	free := func() int64 {
		var st unix.Statfs_t
		must(l.T, unix.Statfs(l.opt.State, &st))
		return int64(st.Bavail) * st.Bsize
	}
	dir := l.TempDir()
	must(l.T, os.WriteFile(filepath.Join(dir, "data"), []byte(strings.Repeat("rubus board ", 3<<20)), 0o644))
	unix.Sync()
	before := free()
	_, _, err := importer.Import(l.Context(), l.store, "large", dir, importer.Options{Reserve: before - 20<<20})
	if err == nil || !strings.Contains(err.Error(), "not enough space") {
		l.Errorf("an import into the reserve: %v", err)
	}
	after := free()
	for end := time.Now().Add(30 * time.Second); after < before-1<<20 && time.Now().Before(end); after = free() {
		unix.Sync() // xfs frees what was removed a little later
	}
	if after < before-1<<20 {
		l.Errorf("an import that failed left %d bytes", before-after)
	}
	if list, err := l.store.List(); err != nil || len(list) != 1 {
		l.Errorf("an import that failed left an image: %v, %v", list, err)
	}
}

// overNFS shows what a board whose quota is used up is told.
func overNFS(t *testing.T, x nfsexport.Export, limit int64) {
	t.Helper()
	// The reserve is of the disk, and not of what the quota leaves.
	fs, err := handlefs.New(handlefs.Options{Key: [32]byte{1}, Reserve: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	if err := fs.Publish(x); err != nil {
		t.Fatal(err)
	}
	root, err := fs.RootHandle(x.ID)
	if err != nil {
		t.Fatal(err)
	}
	call := &nfs3.Call{Peer: netip.AddrPortFrom(addrA, 700)}
	var s nfs3.FSStat
	var a nfs3.PostAttr
	if st := fs.FSStat(call, root, &s, &a); st != nfs3.OK || int64(s.Tbytes) != limit || s.Abytes > 64<<10 {
		t.Errorf("FSSTAT: %s %+v", st, s)
	}
	var h []byte
	var b nfs3.PostAttr
	if st := fs.Lookup(call, root, "a", &h, &a, &b); st != nfs3.OK {
		t.Fatalf("LOOKUP: %s", st)
	}
	var w nfs3.Wcc
	st := nfs3.OK
	for off := a.Size; st == nfs3.OK && off < a.Size+4<<20; off += 1 << 20 { // the first blocks may go in
		_, _, st = fs.Write(call, h, off, make([]byte, 1<<20), nfs3.Unstable, &w)
	}
	if st != nfs3.ErrDQuot && st != nfs3.ErrNoSpc {
		t.Errorf("WRITE: %s", st)
	}
	if _, _, st := fs.Write(call, h, 0, make([]byte, 1<<20), nfs3.FileSync, &w); st != nfs3.OK {
		t.Errorf("WRITE in place: %s", st)
	}
	for st := nfs3.OK; st == nfs3.OK; { // to the last block
		if st = fs.GetAttr(call, h, &a.Attr); st == nfs3.OK {
			_, _, st = fs.Write(call, h, a.Size, make([]byte, 4096), nfs3.Unstable, &w)
		}
	}
	dir := root
	for _, name := range []string{"boot", "firmware"} {
		var sub []byte
		if st := fs.Lookup(call, dir, name, &sub, &a, &b); st != nfs3.OK {
			t.Fatalf("LOOKUP: %s", st)
		}
		dir = sub
	}
	if st := fs.Remove(call, dir, "cmdline.txt", &w); st != nfs3.OK {
		t.Errorf("REMOVE of a golden file: %s", st)
	}
	if st := fs.SetAttr(call, h, &nfs3.SetAttr{SetSize: true, Size: 8 << 20}, nil, &w); st != nfs3.OK {
		t.Errorf("SETATTR that cuts: %s", st)
	}
}

// sharesBlocks says whether copies take next to nothing in a file system.
func sharesBlocks(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.XFS_SUPER_MAGIC
}
