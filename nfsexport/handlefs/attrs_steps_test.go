package handlefs

import (
	"fmt"
	"path/filepath"
	"time"

	"rubus/nfsexport/nfs3"
)

// pick gives a handle and path of something that is there: a directory, or anything.
func (x *truth) pick(dirOnly bool) (h []byte, path string) {
	for range 4 {
		var isDir bool
		if h, path, isDir = x.walk(dirOnly); dirOnly || !isDir {
			break
		}
	}
	return h, path
}

func (x *truth) walk(dirOnly bool) (h []byte, path string, isDir bool) {
	h, path = x.root, "."
	for range x.rng.IntN(4) {
		n := universe()[x.rng.IntN(len(universe()))]
		var next []byte
		var a, da nfs3.PostAttr
		if x.Lookup(&x.call, h, n, &next, &a, &da) != nfs3.OK {
			continue
		}
		if a.Type != nfs3.TypeDir {
			if dirOnly {
				continue
			}
			return next, filepath.Join(path, n), false
		}
		h, path = next, filepath.Join(path, n)
	}
	return h, path, true
}

// step makes one call at random, and compares what it says of what it did.
func (x *truth) step() (what string) {
	x.t.Helper()
	call := &x.call
	if x.rng.IntN(4) == 0 {
		call = x.as(1000, 1000)
	}
	dir, dp := x.pick(true)
	name := universe()[x.rng.IntN(len(universe()))]
	h, hp := x.pick(false)
	before, _ := x.real(dp)
	hBefore, _ := x.real(hp)
	wcc := func(what, path string, before nfs3.Attr, w *nfs3.Wcc) {
		x.t.Helper()
		if w.Before.OK && (w.Before != nfs3.PreAttr{OK: true, Size: before.Size, Mtime: before.Mtime, Ctime: before.Ctime}) {
			x.t.Fatalf("%s: before it %s was %+v, it was said %+v", what, path, before, w.Before)
		}
		if w.After.OK {
			x.same(what+": after it", path, w.After)
		}
	}
	set := nfs3.SetAttr{SetMode: true, Mode: []uint32{0o644, 0o600, 0o755, 0o4755}[x.rng.IntN(4)]}
	var n nfs3.New
	var w nfs3.Wcc
	switch k := x.rng.IntN(20); k {
	case 0, 1, 2:
		mode := []nfs3.CreateMode{nfs3.Unchecked, nfs3.Guarded, nfs3.Exclusive}[k]
		s := &set
		if mode == nfs3.Exclusive {
			s = nil
		} else if x.rng.IntN(2) == 0 {
			s.SetSize, s.Size = true, uint64(x.rng.IntN(3))*5000
		}
		st := x.Create(call, dir, name, mode, s, x.rng.Uint64(), &n)
		what = fmt.Sprintf("CREATE %d %s/%s: %v", mode, dp, name, st)
	case 3:
		set.Mode |= 0o111
		what = fmt.Sprintf("MKDIR %s/%s: %v", dp, name, x.Mkdir(call, dir, name, &set, &n))
	case 4:
		what = fmt.Sprintf("SYMLINK %s/%s: %v", dp, name, x.Symlink(call, dir, name, "text", &set, &n))
	case 5:
		what = fmt.Sprintf("MKNOD %s/%s: %v", dp, name, x.Mknod(call, dir, name, nfs3.TypeFifo, 0, 0, &set, &n))
	case 6:
		what = fmt.Sprintf("REMOVE %s/%s: %v", dp, name, x.Remove(call, dir, name, &w))
		wcc(what, dp, before, &w)
	case 7:
		what = fmt.Sprintf("RMDIR %s/%s: %v", dp, name, x.Rmdir(call, dir, name, &w))
		wcc(what, dp, before, &w)
	case 8, 9, 10:
		to, tp := x.pick(true)
		toName := universe()[x.rng.IntN(len(universe()))]
		toBefore, _ := x.real(tp)
		var w2 nfs3.Wcc
		st := x.Rename(call, dir, name, to, toName, &w, &w2)
		what = fmt.Sprintf("RENAME %s/%s %s/%s: %v", dp, name, tp, toName, st)
		if _, there := x.real(dp); there { // else it lies elsewhere now
			wcc(what, dp, before, &w)
		}
		if _, there := x.real(tp); there {
			wcc(what, tp, toBefore, &w2)
		}
	case 11:
		var a nfs3.PostAttr
		what = fmt.Sprintf("LINK %s %s/%s: %v", hp, dp, name, x.Link(call, h, dir, name, &a, &w))
		x.same(what, hp, a)
		wcc(what, dp, before, &w)
	case 12, 13:
		s := x.setting()
		what = fmt.Sprintf("SETATTR %s %+v: %v", hp, s, x.SetAttr(call, h, &s, nil, &w))
		wcc(what, hp, hBefore, &w)
	case 14:
		pieces := make([]nfs3.Piece, 1+x.rng.IntN(4))
		for i := range pieces {
			pieces[i] = nfs3.Piece{Off: uint64(x.rng.IntN(20000)), Data: make([]byte, x.rng.IntN(6000))}
		}
		what = fmt.Sprintf("WRITE %s, several: %v", hp, x.WriteAll(call, h, pieces, &w))
		wcc(what, hp, hBefore, &w)
	case 15:
		how := nfs3.Stable(x.rng.IntN(3))
		_, _, st := x.Write(call, h, uint64(x.rng.IntN(20000)), make([]byte, 1+x.rng.IntN(6000)), how, &w)
		what = fmt.Sprintf("WRITE %s: %v", hp, st)
		wcc(what, hp, hBefore, &w)
	case 16:
		if x.rng.IntN(2) == 0 {
			what = fmt.Sprintf("COMMIT %s: %v", hp, x.Commit(call, h, 0, 0, &w))
			wcc(what, hp, hBefore, &w)
			break
		}
		var text []byte
		var a nfs3.PostAttr
		what = fmt.Sprintf("READLINK %s: %v", hp, x.ReadLink(call, h, &text, &a))
	case 17:
		var a nfs3.PostAttr
		pieces := make([]nfs3.Piece, 1+x.rng.IntN(4))
		for i := range pieces {
			pieces[i] = nfs3.Piece{Off: uint64(x.rng.IntN(20000)), Data: make([]byte, x.rng.IntN(6000))}
		}
		what = fmt.Sprintf("READ %s, several: %v", hp, x.ReadAll(call, h, pieces, &a))
		if a.OK {
			x.same(what, hp, a)
		}
	default:
		var a nfs3.PostAttr
		_, _, st := x.Read(call, h, 0, make([]byte, 4096), &a)
		what = fmt.Sprintf("READ %s: %v", hp, st)
	}
	if n.Attr.OK {
		x.same(what+": what it made", filepath.Join(dp, name), n.Attr)
	}
	if n.Dir.After.OK {
		wcc(what, dp, before, &n.Dir)
	}
	return what
}

// setting is what a SETATTR sets.
func (x *truth) setting() (s nfs3.SetAttr) {
	switch x.rng.IntN(6) {
	case 0:
		s.SetMode, s.Mode = true, []uint32{0o777, 0o700, 0o644, 0o4711}[x.rng.IntN(4)]
	case 1:
		s.SetUID, s.UID = true, uint32(1000*x.rng.IntN(2))
	case 2:
		s.SetSize, s.Size = true, uint64(x.rng.IntN(12000))
	case 3:
		s.SetAtime, s.SetMtime = nfs3.SetToServer, nfs3.SetToServer
	case 4: // of long ago: the next read moves it
		s.SetAtime, s.Atime = nfs3.SetToClient, nfs3.Time{Sec: uint32(x.rng.IntN(1e9))}
	default:
		s.SetAtime, s.Atime = nfs3.SetToClient, nfs3.Time{Sec: uint32(time.Now().Unix()) + 1000}
		s.SetMtime, s.Mtime = nfs3.SetToClient, nfs3.Time{Sec: uint32(x.rng.IntN(1e9))}
	}
	return s
}

// restart serves the same mount, or the same overlay mounted again, by a new server.
func (x *truth) restart(remount bool) {
	x.t.Helper()
	must(x.t, x.FS.Close())
	if remount {
		x.ov.Unmount(x.t)
		x.ov.Mount(x.t)
	}
	x.FS = newFS(x.t, Options{AttrAge: time.Hour})
	x.publish(x.t)
}
