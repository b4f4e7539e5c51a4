package handlefs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// TestACL: a POSIX ACL that came with the image decides, as in the kernel.
func TestACL(t *testing.T) {
	if _, err := exec.LookPath("setfacl"); err != nil {
		t.Fatal("setfacl is needed (package acl)")
	}
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		write(t, lower+"/f", "text")
		os.Chmod(lower+"/f", 0o600)
		run(t, "setfacl", "-m", "u:77:r", lower+"/f")
		os.Mkdir(lower+"/d", 0o755)
		run(t, "setfacl", "-d", "-m", "u::rwx,g::r-x,o::---", lower+"/d")
	})
	f := w.lookup(t, "f")
	var a nfs3.PostAttr
	if _, _, st := w.Read(w.as(77, 77), f, 0, make([]byte, 10), &a); st != nfs3.OK {
		t.Errorf("the user of the ACL: status %d", st)
	}
	if _, _, st := w.Read(w.as(78, 78), f, 0, make([]byte, 10), &a); st != nfs3.ErrAcces {
		t.Errorf("another user: status %d", st)
	}
	if got, _ := w.Access(w.as(77, 77), f, accessRead|accessModify, &a); got != accessRead {
		t.Errorf("ACCESS of the user of the ACL: %#x", got)
	}
	var n nfs3.New
	if st := w.Create(&w.call, w.lookup(t, "d"), "f", nfs3.Guarded, &nfs3.SetAttr{SetMode: true, Mode: 0o666}, 0, &n); st != nfs3.OK || n.Attr.Mode != 0o640 {
		t.Errorf("below a default ACL: status %d, mode %o", st, n.Attr.Mode)
	}
}

// TestUmask: the process's umask is not the clients'.
func TestUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	c := w.client()
	if _, err := c.Open("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666); err != nil {
		t.Fatal(err)
	}
	c.Mkdir("d", 0o1777)
	c.Mknod("p", unix.S_IFIFO|0o622, 0)
	for name, want := range map[string]uint32{"f": 0o666, "d": 0o1777, "p": 0o622} {
		if st, err := c.Lstat(name); err != nil || st.Mode&0o7777 != want {
			t.Errorf("%s: mode %o, want %o, %v", name, st.Mode&0o7777, want, err)
		}
	}
}

// TestCredentials has many users at work at once: no one gets another's rights,
// and the server's threads keep none.
func TestCredentials(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	w.client().Chmod(".", 0o1777)
	var wg sync.WaitGroup
	for u := range uint32(8) {
		wg.Go(func() {
			call := w.as(1000+u, 2000+u, 3000+u)
			for i := range 100 {
				name := fmt.Sprintf("f%d-%d", u, i)
				var n nfs3.New
				if st := w.Create(call, w.root, name, nfs3.Guarded, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, 0, &n); st != nfs3.OK {
					t.Errorf("create: status %d", st)
					return
				}
				if n.Attr.UID != call.UID || n.Attr.GID != call.GID {
					t.Errorf("user %d made a file of %d:%d", call.UID, n.Attr.UID, n.Attr.GID)
				}
				if st := w.getattr(n.Handle); st != nfs3.OK { // as root, meanwhile
					t.Errorf("getattr: status %d", st)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range []*nfs3.Call{w.as(^uint32(0), 0), w.as(0, ^uint32(0)), w.as(^uint32(0), ^uint32(0))} {
		var n nfs3.New
		if st := w.Create(c, w.root, "minus-one", nfs3.Guarded, &nfs3.SetAttr{}, 0, &n); st == nfs3.OK {
			t.Errorf("uid %d gid %d, which are none, made a file", c.UID, c.GID)
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue // it ended
		}
		for _, line := range []string{"Uid:\t0\t0\t0\t0\n", "Gid:\t0\t0\t0\t0\n"} {
			if !bytes.Contains(b, []byte(line)) {
				t.Errorf("thread %s kept a caller's credentials:\n%s", task.Name(), b)
			}
		}
	}
}

// TestProtectedHardlinks: whether a user may link to another's file is for his
// own kernel to say.
func TestProtectedHardlinks(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	w.client().Chmod(".", 0o777)
	f := w.create(t, &w.call, "f", 0o600)
	var a nfs3.PostAttr
	var wcc nfs3.Wcc
	if st := w.Link(w.as(5, 5), f, w.root, "g", &a, &wcc); st != nfs3.OK || a.Nlink != 2 {
		t.Errorf("link: status %d", st)
	}
}

func TestInitIsNoted(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		write(t, lower+"/init", "text")
		write(t, lower+"/other", "text")
	})
	var st unix.Stat_t
	unix.Stat(w.ov.Root+"/init", &st)
	w.exp.Init = st.Ino
	w.publish(t)
	var a nfs3.PostAttr
	w.Read(&w.call, w.lookup(t, "other"), 0, make([]byte, 9), &a)
	w.Read(&w.call, w.lookup(t, "init"), 2, make([]byte, 9), &a)
	if w.exp.Activity.InitRead.Load() != 0 {
		t.Error("init was noted too early")
	}
	w.Read(&w.call, w.lookup(t, "init"), 0, make([]byte, 9), &a)
	if w.exp.Activity.InitRead.Load() == 0 || w.exp.Activity.BytesRead.Load() != 10 {
		t.Errorf("init read at %d, %d bytes read", w.exp.Activity.InitRead.Load(), w.exp.Activity.BytesRead.Load())
	}
}
