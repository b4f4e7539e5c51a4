package handlefs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// What the server remembers is held against what the kernel says: calls are made at
// random, and after each every answer about every file is compared with lstat(2). What
// is remembered does not age here, so that each change has to be known to the server.

// truth compares a world with its mounted root.
type truth struct {
	*world
	t    *testing.T
	rng  *rand.Rand
	used bool // the space that files use changes with calls only
	fine bool // the kernel's stamps tell any two changes apart that were looked at
	seen map[string]bool
}

// universe are the names that may be there, in three levels.
func universe() []string { return []string{"a", "b", "c", "dir", "sub"} }

func newTruth(t *testing.T, base string, seed uint64, used bool) *truth {
	x := &truth{t: t, rng: rand.New(rand.NewPCG(seed, 0)), used: used, seen: map[string]bool{}}
	x.world = newWorld(t, base, Options{AttrAge: time.Hour}, true, func(lower string) {
		for _, d := range []string{"dir/sub/dir", "dir/c", "sub/sub"} {
			must(t, os.MkdirAll(filepath.Join(lower, d), 0o777))
		}
		for i, f := range []string{"a", "dir/a", "dir/sub/a", "dir/sub/dir/a", "sub/sub/b"} {
			write(t, filepath.Join(lower, f), strings.Repeat("golden", 1000*(1+i)))
			old := time.Now().Add(-time.Hour)
			must(t, os.Chtimes(filepath.Join(lower, f), old, old))
			must(t, os.Link(filepath.Join(lower, f), filepath.Join(lower, filepath.Dir(f), "c2")))
		}
		must(t, os.Symlink("a", filepath.Join(lower, "b")))
		must(t, os.Rename(filepath.Join(lower, "c2"), filepath.Join(lower, "sub/c"))) // a link of a, elsewhere
		must(t, os.Chmod(filepath.Join(lower, "sub"), 0o777))
	})
	must(t, x.Withdraw(x.exp.ID))
	x.ov.Unmount(t)
	x.ov.More = ",redirect_dir=on"
	x.ov.Mount(t)
	x.publish(t)
	x.fine = x.stamps()
	x.settle()
	return x
}

// stamps says whether the kernel gives each change of a directory another time when
// it was asked for between them (from Linux 6.13 on), however short a while that was.
func (x *truth) stamps() bool {
	seen := map[stamp.Stamp]bool{}
	for i := range 20 {
		must(x.t, os.Mkdir(filepath.Join(x.ov.Root, "stamps"), 0o700))
		seen[stamp.Of(x.stat(x.t, "."))] = true
		must(x.t, os.Remove(filepath.Join(x.ov.Root, "stamps")))
		seen[stamp.Of(x.stat(x.t, "."))] = true
		if len(seen) != 2*i+2 {
			return false
		}
	}
	return true
}

// settle makes all directories settled: what names and listings say is remembered.
func (x *truth) settle() {
	if x.fine {
		x.FS.stampTime = func() time.Time { return time.Now().Add(time.Hour) }
		return
	}
	settle()
}

// settle waits until what changed last has settled.
func settle() {
	for was := time.Now(); stamp.Now().Sub(was) <= stamp.SettleTime; {
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// real gives the attributes that the kernel has of a path, and whether it is there.
func (x *truth) real(path string) (a nfs3.Attr, there bool) {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(x.ov.Root, path), &st); err != nil {
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			x.t.Fatal(err)
		}
		return a, false
	}
	o := op{exp: &export{Export: x.exp}}
	o.attr(&st, &a)
	return a, true
}

// same wants an answer to be what the kernel says.
func (x *truth) same(what, path string, got nfs3.PostAttr) {
	x.t.Helper()
	want, there := x.real(path)
	if !x.used {
		got.Used = want.Used
	}
	if !there || !got.OK || got.Attr != want {
		x.t.Fatalf("%s: %s is\n%+v (%v), it was said\n%+v", what, path, want, there, got)
	}
}

// check asks for everything, and compares.
func (x *truth) check(what string) {
	x.t.Helper()
	now := map[string]bool{}
	x.list(what, x.root, ".")
	x.tree(what, x.root, ".", func(h []byte) { now[string(h)] = true })
	for h := range x.seen {
		var a nfs3.Attr
		st := x.GetAttr(&x.call, []byte(h), &a)
		if now[h] {
			continue // compared already
		}
		// An overlay may count too many links of what is gone: then it is there
		// for the kernel, too.
		if st == nfs3.ErrStale || st == nfs3.OK && a == x.uncached([]byte(h)) {
			continue
		}
		x.t.Fatalf("%s: the handle of what is gone answers %v, %+v", what, st, a)
	}
	maps.Copy(x.seen, now)
}

// uncached is what a server that remembers nothing says.
func (x *truth) uncached(h []byte) (a nfs3.Attr) {
	fs := newFS(x.t, Options{AttrAge: -1})
	must(x.t, fs.Publish(x.exp))
	fs.GetAttr(&x.call, h, &a)
	must(x.t, fs.Close())
	return a
}

// list compares READDIRPLUS of every directory.
func (x *truth) list(what string, dir []byte, path string) {
	x.t.Helper()
	for _, e := range x.all(x.t, dir, 3, true) {
		if isDots(e.name) {
			continue
		}
		p := filepath.Join(path, e.name)
		x.same(what+": READDIRPLUS", p, e.attr)
		if e.attr.Type == nfs3.TypeDir {
			x.list(what, e.handle, p)
		}
	}
}

// tree compares LOOKUP, GETATTR and ACCESS, and tells found of all that is there.
func (x *truth) tree(what string, dir []byte, path string, found func(h []byte)) {
	x.t.Helper()
	for _, n := range append(universe(), "c2", "never") {
		p := filepath.Join(path, n)
		var h []byte
		var a, da nfs3.PostAttr
		st := x.Lookup(&x.call, dir, n, &h, &a, &da)
		x.same(what+": directory of LOOKUP", path, da)
		if _, there := x.real(p); !there {
			if st != nfs3.ErrNoEnt {
				x.t.Fatalf("%s: %s is not there, LOOKUP says %v", what, p, st)
			}
			continue
		}
		if st != nfs3.OK {
			x.t.Fatalf("%s: LOOKUP of %s says %v", what, p, st)
		}
		x.same(what+": LOOKUP", p, a)
		found(h)
		get := nfs3.PostAttr{OK: true}
		if st := x.GetAttr(&x.call, h, &get.Attr); st != nfs3.OK {
			x.t.Fatalf("%s: GETATTR of %s says %v", what, p, st)
		}
		x.same(what+": GETATTR", p, get)
		var acc nfs3.PostAttr
		user := x.as(1000, 1000)
		bits, st := x.Access(user, h, accessRead, &acc)
		x.same(what+": ACCESS", p, acc)
		if want := a.Mode&0o4 != 0 && a.UID != 1000 && a.GID != 1000; a.UID != 1000 && a.GID != 1000 && (bits != 0) != want {
			x.t.Fatalf("%s: ACCESS of %s gives %#x, %v, its mode is %o", what, p, bits, st, a.Mode)
		}
		switch a.Type {
		case nfs3.TypeReg:
			x.data(what+": READ", p, h)
		case nfs3.TypeDir:
			x.tree(what, h, p, found)
		}
	}
}

// data compares what a file has.
func (x *truth) data(what, path string, h []byte) {
	x.t.Helper()
	want, got := make([]byte, 64<<10), make([]byte, 64<<10)
	fd, err := unix.Open(filepath.Join(x.ov.Root, path), unix.O_RDONLY|unix.O_NOATIME, 0)
	must(x.t, err)
	defer unix.Close(fd)
	n, err := unix.Pread(fd, want, 0)
	must(x.t, err)
	var a nfs3.PostAttr
	if m, _, st := x.Read(&x.call, h, 0, got, &a); st != nfs3.OK || !bytes.Equal(got[:m], want[:n]) {
		x.t.Fatalf("%s: %s has %d bytes, it was said %d others, %v", what, path, n, m, st)
	}
	x.same(what, path, a)
}

func TestAttrsAreTrue(t *testing.T) {
	for _, fsType := range []string{"tmpfs", "ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			for seed := range uint64(2) {
				base := diskOf(t, fsType)
				x := newTruth(t, base, seed, fsType == "tmpfs")
				var told []string
				t.Cleanup(func() {
					if t.Failed() {
						t.Log("seed", seed, "\n", strings.Join(told[max(0, len(told)-40):], "\n"))
					}
				})
				x.check("at the start")
				steps := 300
				if !x.fine {
					steps = 30
				}
				for i := range steps {
					what := x.step()
					told = append(told, what)
					x.check(what)
					x.settle()
					if i%50 == 49 {
						x.restart(i%100 == 99)
						told = append(told, "restart")
						x.check("restart")
					}
				}
			}
		})
	}
}

// diskOf mounts a new file system.
func diskOf(t *testing.T, fsType string) string {
	if fsType != "tmpfs" {
		return newImage(t, fsType, t.TempDir(), 400).dir
	}
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Calls of many clients' threads at once: whenever they rest, all that is remembered
// is true.
func TestAttrsOfManyCalls(t *testing.T) {
	x := newTruth(t, diskOf(t, "tmpfs"), 1, true)
	for round := range 40 {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				call := x.as(0, 0)
				x.crowd(call, rng)
			})
		}
		all.Wait()
		x.check(fmt.Sprintf("round %d", round))
	}
}

// crowd makes calls, and looks at nothing that they say.
func (x *truth) crowd(call *nfs3.Call, rng *rand.Rand) {
	name := func() string { return universe()[rng.IntN(len(universe()))] }
	at := func() []byte {
		h := x.root
		for range rng.IntN(3) {
			var next []byte
			var a, da nfs3.PostAttr
			if x.Lookup(call, h, name(), &next, &a, &da) == nfs3.OK {
				h = next
			}
		}
		return h
	}
	for range 60 {
		var n nfs3.New
		var w, w2 nfs3.Wcc
		var a nfs3.PostAttr
		var verf uint64
		set := nfs3.SetAttr{SetMode: true, Mode: 0o755}
		switch h, in := at(), at(); rng.IntN(10) {
		case 0:
			x.Create(call, in, name(), nfs3.Guarded, &set, 0, &n)
		case 1:
			x.Mkdir(call, in, name(), &set, &n)
		case 2:
			x.Remove(call, in, name(), &w)
		case 3:
			x.Rename(call, in, name(), at(), name(), &w, &w2)
		case 4:
			x.Link(call, h, in, name(), &a, &w)
		case 5:
			x.SetAttr(call, h, &nfs3.SetAttr{SetMode: true, Mode: 0o700 + uint32(rng.IntN(64))}, nil, &w)
		case 6, 7:
			x.Write(call, h, uint64(rng.IntN(9000)), bytes.Repeat([]byte{1}, 1+rng.IntN(3000)), nfs3.Unstable, &w)
		case 8:
			x.Read(call, h, 0, make([]byte, 100), &a)
		default:
			x.ReadDir(call, in, 0, &verf, true, nfs3.EntryFunc(func(*nfs3.Entry) bool { return true }), &a)
		}
	}
}
