package handlefs

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

func (w *world) getattr(fh []byte) nfs3.Status {
	_, st := w.subject(fh)
	return st
}

// subject is what a GETATTR of fh is said to be about, and its status.
func (w *world) subject(fh []byte) (any, nfs3.Status) {
	call := w.call // others may call at the same time
	var a nfs3.Attr
	st := w.GetAttr(&call, fh, &a)
	return call.Subject, st
}

func (w *world) lookup(t testing.TB, path string) []byte {
	t.Helper()
	h := w.root
	for part := range strings.SplitSeq(path, "/") {
		var next []byte
		var a, d nfs3.PostAttr
		if st := w.Lookup(&w.call, h, part, &next, &a, &d); st != nfs3.OK {
			t.Fatalf("looking up %q: status %d", path, st)
		}
		h = next
	}
	return h
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// below counts this process's descriptors on the device of dir.
func below(t testing.TB, dev uint64) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat("/proc/self/fd/"+fd.Name(), &st) == nil && st.Dev == dev {
			n++
		}
	}
	return n
}

func TestAnswersByState(t *testing.T) {
	var events []EventKind
	w := newWorld(t, t.TempDir(), Options{Observe: func(e Event) { events = append(events, e.Kind) }}, true, nil)
	if st := w.getattr(w.root); st != nfs3.OK {
		t.Fatalf("ready: status %d", st)
	}
	if w.exp.Activity.Calls.Load() != 1 || w.exp.Activity.LastCall.Load() == 0 {
		t.Error("the call was not noted")
	}

	for name, peer := range map[string]string{
		"another address": "192.0.2.8:700", "a port of users": "192.0.2.7:1024", "the mapped address, a port of users": "[::ffff:192.0.2.7]:40000",
	} {
		w.call.Peer = netip.MustParseAddrPort(peer)
		if about, st := w.subject(w.root); st != nfs3.ErrAcces || about != nil {
			t.Errorf("%s: status %d, counts as the call of %v", name, st, about)
		}
	}
	if n := w.exp.Activity.Refused.Load(); n != 3 || w.exp.Activity.Calls.Load() != 1 || len(events) != 3 {
		t.Errorf("%d calls refused, %d counted, %d observed", n, w.exp.Activity.Calls.Load(), len(events))
	}
	w.call.Peer = netip.MustParseAddrPort("[::ffff:192.0.2.7]:700")
	about, st := w.subject(w.root)
	if x, ok := about.(*nfsexport.Export); st != nfs3.OK || !ok || x.Activity != w.exp.Activity || x.Name != w.exp.Name {
		t.Errorf("the mapped address: status %d, the call's subject is %v", st, about)
	}

	preparing := w.exp
	preparing.State = nfsexport.Preparing
	if err := w.Publish(preparing); err != nil {
		t.Fatal(err)
	}
	if st := w.getattr(w.root); st != nfs3.ErrJukebox {
		t.Errorf("preparing: status %d", st)
	}
	if _, err := w.RootHandle(w.exp.ID); err != ErrPreparing {
		t.Errorf("root handle while preparing: %v", err)
	}
	w.ov.Unmount(t) // nothing is held
	w.ov.Mount(t)
	root := w.root
	w.publish(t)
	if st := w.getattr(root); st != nfs3.OK {
		t.Errorf("ready again: status %d", st)
	}
	for range 2 {
		if err := w.Withdraw(w.exp.ID); err != nil {
			t.Fatal(err)
		}
	}
	if st := w.getattr(root); st != nfs3.ErrStale {
		t.Errorf("withdrawn: status %d", st)
	}
	w.Doubt(true)
	if st := w.getattr(root); st != nfs3.ErrJukebox {
		t.Errorf("unknown while in doubt: status %d", st)
	}
	forged := slices.Clone(root)
	forged[len(forged)-1] ^= 1
	if st := w.getattr(forged); st != nfs3.ErrBadHandle {
		t.Errorf("forged while in doubt: status %d", st)
	}
	w.Doubt(false)
	if st := w.getattr(root); st != nfs3.ErrStale {
		t.Errorf("no longer in doubt: status %d", st)
	}
	if _, err := w.RootHandle(w.exp.ID); err != ErrNotPublished {
		t.Errorf("root handle after withdraw: %v", err)
	}
}

func TestPublishRefuses(t *testing.T) {
	base := t.TempDir()
	w := newWorld(t, base, Options{}, true, func(lower string) { os.Mkdir(lower+"/sub", 0o755) })
	plain := base + "/plain"
	os.Mkdir(plain, 0o755)
	os.Mkdir(base+"/noexport", 0o755)
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", w.ov.Lower, base+"/u2", base+"/w2")
	os.Mkdir(base+"/u2", 0o755)
	os.Mkdir(base+"/w2", 0o755)
	if err := unix.Mount("overlay", base+"/noexport", "overlay", 0, opts+",index=off"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(base+"/noexport", unix.MNT_DETACH)
	os.Symlink(w.ov.Root, base+"/link")
	for name, dir := range map[string]string{
		"not an overlay": plain, "not a mount point": w.ov.Root + "/sub", "missing": base + "/no",
		"without nfs_export": base + "/noexport", "a link": base + "/link",
	} {
		x := w.exp
		x.ID, x.Dir = 99, dir
		if err := w.Publish(x); err == nil {
			t.Errorf("%s: published", name)
		} else {
			t.Log(err)
		}
	}
	x := w.exp
	x.Activity = nil
	if w.Publish(x) == nil {
		t.Error("an export without Activity was published")
	}
	if st := w.getattr(w.root); st != nfs3.OK {
		t.Errorf("the good export: status %d", st)
	}
}

// TestWithdrawUnderLoad withdraws and publishes while calls run: each is
// answered OK, STALE or JUKEBOX, and no descriptor is left behind.
func TestWithdrawUnderLoad(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		for i := range 50 {
			write(t, fmt.Sprintf("%s/f%d", lower, i), "text")
		}
	})
	var dev unix.Stat_t
	unix.Stat(w.ov.Root, &dev)
	var handles [][]byte
	for i := range 50 {
		handles = append(handles, w.lookup(t, fmt.Sprintf("f%d", i)))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			call := w.call
			buf := make([]byte, 10)
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				var a nfs3.PostAttr
				n, _, st := w.Read(&call, handles[i%50], 0, buf, &a)
				if st != nfs3.OK && st != nfs3.ErrStale && st != nfs3.ErrJukebox || st == nfs3.OK && n != 4 {
					t.Errorf("read: %d bytes, status %d", n, st)
					return
				}
				if i%7 == 0 {
					var wcc nfs3.Wcc
					w.Write(&call, handles[i%50], 0, buf[:4], nfs3.Unstable, &wcc)
				}
			}
		})
	}
	for i := range 30 {
		if err := w.Withdraw(w.exp.ID); err != nil {
			t.Fatal(err)
		}
		if n := below(t, dev.Dev); n > 0 {
			t.Fatalf("%d descriptors are open after Withdraw", n)
		}
		if i%10 == 9 {
			w.ov.Unmount(t)
			w.ov.Mount(t)
			unix.Stat(w.ov.Root, &dev)
		}
		w.publish(t)
	}
	close(stop)
	wg.Wait()
}

// TestRestart: handles go on after a restart with the same key, with all kinds
// of objects, also where the overlay was mounted anew: then no path can be told
// for them.
func TestRestart(t *testing.T) {
	base := t.TempDir()
	w := newWorld(t, base, Options{Seed: 1}, false, func(lower string) {
		os.MkdirAll(lower+"/dir/sub", 0o755)
		write(t, lower+"/dir/sub/golden", "golden")
		write(t, lower+"/dir/sub/changed", "golden")
		os.Symlink("text", lower+"/dir/link")
	})
	c := w.client()
	if err := c.Mkdir("dir/new", 0o755); err != nil {
		t.Fatal(err)
	}
	paths := []string{"dir", "dir/sub", "dir/sub/golden", "dir/sub/changed", "dir/link", "dir/new"}
	handles := map[string][]byte{}
	for _, p := range paths {
		handles[p] = w.lookup(t, p)
	}
	var wcc nfs3.Wcc
	if _, _, st := w.Write(&w.call, handles["dir/sub/changed"], 0, []byte("CHANGED"), nfs3.FileSync, &wcc); st != nfs3.OK {
		t.Fatalf("write: status %d", st)
	}
	verifier := w.WriteVerifier(w.root)
	for _, how := range []string{"restart", "restart and remount"} {
		t.Run(how, func(t *testing.T) {
			w.Close()
			if how != "restart" {
				w.ov.Unmount(t)
				w.ov.Mount(t)
			}
			w.FS = newFS(t, Options{Seed: 2})
			w.publish(t)
			if w.WriteVerifier(w.root) == verifier {
				t.Error("the write verifier is the one before")
			}
			for p, h := range handles {
				if st := w.getattr(h); st != nfs3.OK {
					t.Errorf("%s: status %d", p, st)
				}
			}
			buf := make([]byte, 20)
			for p, want := range map[string]string{"dir/sub/golden": "golden", "dir/sub/changed": "CHANGED"} {
				var a nfs3.PostAttr
				n, eof, st := w.Read(&w.call, handles[p], 0, buf, &a)
				if st != nfs3.OK || string(buf[:n]) != want || !eof {
					t.Errorf("%s: %q, status %d", p, buf[:n], st)
				}
			}
			if how == "restart" {
				return
			}
			// A lower file that is written to first through its old handle.
			if _, _, st := w.Write(&w.call, handles["dir/sub/golden"], 0, []byte("G"), nfs3.FileSync, &wcc); st != nfs3.OK {
				t.Errorf("write by an old handle: status %d", st)
			}
			if b, err := os.ReadFile(w.ov.Root + "/dir/sub/golden"); string(b) != "Golden" {
				t.Errorf("the file holds %q, %v", b, err)
			}
			if b, _ := os.ReadFile(w.ov.Lower + "/dir/sub/golden"); string(b) != "golden" {
				t.Errorf("the golden file holds %q", b)
			}
			var up []byte
			var a, d nfs3.PostAttr
			if st := w.Lookup(&w.call, handles["dir/sub"], "..", &up, &a, &d); st != nfs3.OK || string(up) != string(handles["dir"]) {
				t.Errorf(".. by an old handle: status %d", st)
			}
		})
	}
}

// TestExportsAreApart: the kernel's handle of a golden file is the same in two
// overlays over one lower; the wire's are not, and each opens its own.
func TestExportsAreApart(t *testing.T) {
	base := t.TempDir()
	w := newWorld(t, base, Options{}, true, func(lower string) { write(t, lower+"/f", "golden") })
	other := *w
	other.ov = &nfstest.Overlay{Lower: w.ov.Lower, Upper: base + "/upper2", Work: base + "/work2", Root: base + "/root2"}
	for _, d := range []string{other.ov.Upper, other.ov.Work, other.ov.Root} {
		os.Mkdir(d, 0o755)
	}
	other.ov.Mount(t)
	t.Cleanup(func() { unix.Unmount(other.ov.Root, unix.MNT_DETACH) })
	other.exp.ID, other.exp.Dir, other.exp.Activity = 42, other.ov.Root, new(nfsexport.Activity)
	other.exp.Client = netip.MustParseAddr("192.0.2.9")
	other.call.Peer = netip.MustParseAddrPort("192.0.2.9:700")
	other.publish(t)

	mine, theirs := w.lookup(t, "f"), other.lookup(t, "f")
	var k1, k2 fhandle.Key
	fhandle.Parse(mine, &k1)
	fhandle.Parse(theirs, &k2)
	if string(k1.Kernel()) != string(k2.Kernel()) {
		t.Log("the kernel's handles differ: this test shows less than it should")
	}
	var wcc nfs3.Wcc
	if _, _, st := other.Write(&other.call, theirs, 0, []byte("theirs"), nfs3.FileSync, &wcc); st != nfs3.OK {
		t.Fatalf("write: status %d", st)
	}
	if b, _ := os.ReadFile(w.ov.Root + "/f"); string(b) != "golden" {
		t.Errorf("my file holds %q", b)
	}
	if st := w.getattr(theirs); st != nfs3.ErrAcces {
		t.Errorf("their handle from my address: status %d", st)
	}
	// My handle's MAC over their export's id.
	forged := append([]byte(nil), mine...)
	copy(forged[3:11], theirs[3:11])
	if st := other.getattr(forged); st != nfs3.ErrBadHandle {
		t.Errorf("a handle put together: status %d", st)
	}
	call := w.call
	var w1, w2 nfs3.Wcc
	if st := w.Rename(&call, w.root, "f", other.root, "g", &w1, &w2); st != nfs3.ErrXDev {
		t.Errorf("rename into their export: status %d", st)
	}
	var pa nfs3.PostAttr
	if st := w.Link(&call, mine, other.root, "g", &pa, &w1); st != nfs3.ErrXDev {
		t.Errorf("link into their export: status %d", st)
	}
	must(t, other.Withdraw(other.exp.ID))
	if !w.Expects(board.Addr()) || w.Expects(other.exp.Client) || w.Expects(netip.Addr{}) {
		t.Error("others than the first are expected, or that is not")
	}
}

// TestMountBelow: what someone mounts below a root is not served.
func TestMountBelow(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) { os.Mkdir(lower+"/mnt", 0o755) })
	if err := unix.Mount("tmpfs", w.ov.Root+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.ov.Root+"/mnt", unix.MNT_DETACH)
	var h []byte
	var a, d nfs3.PostAttr
	if st := w.Lookup(&w.call, w.root, "mnt", &h, &a, &d); st == nfs3.OK {
		t.Error("a tmpfs mounted below the root is served")
	}
}

// TestForeignDevice: where layers and upper lie on different file systems and
// inode numbers would not be unique, lower files are not served.
func TestForeignDevice(t *testing.T) {
	base := t.TempDir()
	lower := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	write(t, lower+"/f", "text")
	if err := os.Symlink(lower, base+"/lower"); err != nil {
		t.Fatal(err)
	}
	var events []EventKind
	w := newWorld(t, base, Options{Observe: func(e Event) { events = append(events, e.Kind) }}, true, nil)
	t.Cleanup(func() { w.Close() })
	var h []byte
	var a, d nfs3.PostAttr
	if st := w.Lookup(&w.call, w.root, "f", &h, &a, &d); st != nfs3.ErrIO || len(events) != 1 || events[0] != Foreign {
		t.Errorf("status %d, observed %v", st, events)
	}
}
