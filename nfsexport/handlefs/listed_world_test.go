package handlefs

import (
	"fmt"
	"strings"
	"testing"

	"rubus/config/device"
	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
	"rubus/overlay"
	"rubus/overlay/overlaytest"
)

// standing is a board's root as boot mounts it. It stands while daemons come and go.
type standing struct {
	*world
	on    *overlaytest.Stand
	spec  overlay.Spec
	mount overlay.Root
	told  map[string][]byte // the handles that a listing told, by path
}

// stand is where a disk has layers and the board's uppers.
func stand(t *testing.T, dir string) *overlaytest.Stand {
	t.Helper()
	serial, err := device.SerialFromUint32(0x5b154510)
	must(t, err)
	return &overlaytest.Stand{T: t, Dir: dir, Layers: []string{dir + "/l"}, Uppers: overlay.UppersOf(dir+"/devices", serial)}
}

// stands serves a root by a new daemon.
func stands(t *testing.T, on *overlaytest.Stand, spec overlay.Spec, told map[string][]byte) *standing {
	t.Helper()
	s := &standing{world: &world{ov: &nfstest.Overlay{}, call: nfs3.Call{Peer: board}}, on: on, spec: spec, mount: on.Mount(spec), told: told}
	s.ov.Upper, s.ov.Work = spec.UpperDir+"/upper", spec.UpperDir+"/work"
	s.exp = nfsexport.Export{
		ID: 0x1122334455667788, Name: "5b154510", Path: "/5b154510", Dir: spec.Target, Upper: spec.UpperDir, Index: s.ov.Work + "/index",
		Layers: spec.LayerDirs, State: nfsexport.Ready, Client: board.Addr(), Activity: new(nfsexport.Activity), Quota: new(nfsexport.Quota),
	}
	s.exp.Quota.Limit(nfsexport.Space{Bytes: 1 << 30})
	s.restart(t)
	return s
}

// restart has another daemon serve the root, which stays mounted.
func (s *standing) restart(t *testing.T) {
	t.Helper()
	if s.FS != nil {
		must(t, s.FS.Close())
	}
	s.FS = newFS(t, Options{})
	s.publish(t)
}

// remount unmounts the root and mounts it again.
func (s *standing) remount(t *testing.T) {
	t.Helper()
	must(t, s.FS.Close())
	s.mount = s.on.Remount(s.spec, s.mount)
	s.restart(t)
}

// end leaves nothing mounted.
func (s *standing) end(t *testing.T) {
	t.Helper()
	must(t, s.FS.Close())
	s.on.Unmount(s.mount)
}

// text is what a file or a symbolic link has, or why not.
func (s *standing) text(fh []byte) string {
	var a nfs3.PostAttr
	buf := make([]byte, 100)
	n, eof, st := s.Read(&s.call, fh, 0, buf, &a)
	if buf = buf[:n]; st == nfs3.ErrInval {
		eof, st = true, s.ReadLink(&s.call, fh, &buf, &a)
	}
	switch {
	case st == nfs3.ErrStale:
		return stale
	case st != nfs3.OK || !eof || a.Size != uint64(len(buf)):
		return fmt.Sprintf("(%v, size %d)", st, a.Size)
	default:
		return string(buf)
	}
}

// named is text of what has a path.
func (s *standing) named(path string) string {
	h := s.root
	for part := range strings.SplitSeq(path, "/") {
		var next []byte
		var a, d nfs3.PostAttr
		switch st := s.Lookup(&s.call, h, part, &next, &a, &d); st {
		case nfs3.OK:
			h = next
		case nfs3.ErrNoEnt:
			return none
		default:
			return fmt.Sprintf("(%v)", st)
		}
	}
	return s.text(h)
}

// put writes to a file and brings that to the disk.
func (s *standing) put(fh []byte, text string) nfs3.Status {
	var w nfs3.Wcc
	_, _, st := s.Write(&s.call, fh, 0, []byte(text), nfs3.Unstable, &w)
	if st == nfs3.OK {
		st = s.Commit(&s.call, fh, 0, 0, &w)
	}
	return st
}

// counts: the quota has counted what is there, once, but for so many directories that were
// copied up with a file in them.
func (s *standing) counts(t *testing.T, when string, dirs int64) {
	t.Helper()
	run(t, "sync")
	if used, there := s.exp.Quota.Used(), s.onDisk(t); used.Files != there.Files-dirs || max(used.Bytes-there.Bytes, there.Bytes-used.Bytes) > 64<<10 {
		t.Errorf("%s: %+v is counted, and %+v is there", when, used, there)
	}
}
