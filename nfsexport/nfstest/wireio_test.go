package nfstest_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

var wireIOChecks = []wireCheck{
	{"read", func(e *wireEnv) {
		f := e.file("f", "0123456789")
		for _, tt := range []struct {
			off   uint64
			count int
			want  string
			eof   bool
		}{
			{0, 10, "0123456789", true},
			{0, 4, "0123", false},
			{8, 100, "89", true},
			{10, 1, "", true},
			{1 << 40, 1, "", true},
			{1<<63 - 1, 5, "", true},
			{3, 0, "", false},
		} {
			r := e.call(root, nfs3.ProcRead, f, tt.off, tt.count).must(fmt.Sprintf("read of %d at %d", tt.count, tt.off))
			r.post()
			n, eof := r.r.Uint32(), r.r.Bool()
			data := string(r.r.Opaque(100))
			r.end("read")
			if int(n) != len(data) || data != tt.want || eof != tt.eof {
				e.Errorf("read of %d at %d: count %d, %q, eof %v", tt.count, tt.off, n, data, eof)
			}
		}
	}},
	{"write and commit", func(e *wireEnv) {
		f := e.file("f", "")
		var verf []uint64
		for how := nfs3.Unstable; how <= nfs3.FileSync; how++ {
			r := e.call(root, nfs3.ProcWrite, f, uint64(how)*5, 5, int(how), "12345").must("write")
			e.same("write", r.wcc().After, f)
			n, done := r.r.Uint32(), nfs3.Stable(r.r.Uint32())
			verf = append(verf, r.r.Uint64())
			r.end("write")
			if n != 5 || done < how || done > nfs3.FileSync {
				e.Errorf("write of stable_how %d: count %d, committed %d", how, n, done)
			}
		}
		for _, at := range []struct {
			off   uint64
			count int
		}{{0, 0}, {5, 5}, {1 << 62, 100}} {
			r := e.call(root, nfs3.ProcCommit, f, at.off, at.count).must("commit")
			e.same("commit", r.wcc().After, f)
			verf = append(verf, r.r.Uint64())
			r.end("commit")
		}
		if n := len(slices.Compact(verf)); n != 1 {
			e.Errorf("%d write verifiers, and nothing was lost", n)
		}
		if got := e.read(f); got != "123451234512345" {
			e.Errorf("the file holds %q", got)
		}
		e.call(root, nfs3.ProcWrite, f, uint64(1<<63-2), 5, int(nfs3.Unstable), "12345").want("write to the end of all", nfs3.ErrFBig, nfs3.ErrInval)
		e.call(root, nfs3.ProcWrite, f, uint64(1<<64-3), 5, int(nfs3.Unstable), "12345").want("write around the end", nfs3.ErrFBig, nfs3.ErrInval)
		e.call(root, nfs3.ProcSetAttr, f, nfs3.SetAttr{SetSize: true, Size: 1<<63 + 5}, false).want("a size of 2^63", nfs3.ErrFBig, nfs3.ErrInval)
		if a := e.attr(f); a.Size != 15 {
			e.Errorf("size %d", a.Size)
		}
	}},
	{"attributes that nobody may set", func(e *wireEnv) {
		f := e.file("f", "x")
		e.call(root, nfs3.ProcSetAttr, f, nfs3.SetAttr{SetUID: true, UID: alice.uid, SetGID: true, GID: alice.gid}, false).must("chown")
		for _, tt := range []struct {
			name string
			who  cred
			set  nfs3.SetAttr
			want nfs3.Status
		}{
			{"his mode", alice, mode(0o600), nfs3.OK},
			{"another's mode", bob, mode(0o777), nfs3.ErrPerm},
			{"his file to another", alice, nfs3.SetAttr{SetUID: true, UID: bob.uid}, nfs3.ErrPerm},
			{"a foreign group", alice, nfs3.SetAttr{SetGID: true, GID: bob.gid}, nfs3.ErrPerm},
			{"a group of his", cred{alice.uid, alice.gid, []uint32{bob.gid}}, nfs3.SetAttr{SetGID: true, GID: bob.gid}, nfs3.OK},
			{"another's size", bob, nfs3.SetAttr{SetSize: true}, nfs3.ErrAcces},
			{"another's time", bob, nfs3.SetAttr{SetMtime: nfs3.SetToClient, Mtime: nfs3.Time{Sec: 1}}, nfs3.ErrAcces},
			{"another's time to now", bob, nfs3.SetAttr{SetAtime: nfs3.SetToServer, SetMtime: nfs3.SetToServer}, nfs3.ErrAcces},
			{"his time", alice, nfs3.SetAttr{SetMtime: nfs3.SetToClient, Mtime: nfs3.Time{Sec: 1, Nsec: 999999999}}, nfs3.OK},
		} {
			want := []nfs3.Status{tt.want}
			if tt.want == nfs3.ErrAcces {
				want = append(want, nfs3.ErrPerm)
			}
			e.call(tt.who, nfs3.ProcSetAttr, f, tt.set, false).want(tt.name, want...)
		}
		if a := e.attr(f); a.UID != alice.uid || a.GID != bob.gid || a.Mode != 0o600 || a.Size != 1 || a.Mtime != (nfs3.Time{Sec: 1, Nsec: 999999999}) {
			e.Errorf("now it is %+v", a)
		}
	}},
	{"access", func(e *wireEnv) {
		all := e.every()
		const everything = 0x3f
		for _, tt := range []struct {
			t    nfs3.FileType
			mode uint32
			who  cred
			want uint32
		}{
			{nfs3.TypeReg, 0o644, bob, 0x01},
			{nfs3.TypeReg, 0o755, bob, 0x21},
			{nfs3.TypeReg, 0o640, alice, 0x0d},
			{nfs3.TypeReg, 0o640, root, 0x0d},
			{nfs3.TypeReg, 0o001, root, 0x2d},
			{nfs3.TypeReg, 0o070, cred{bob.uid, bob.gid, []uint32{alice.gid}}, 0x2d},
			{nfs3.TypeDir, 0o755, bob, 0x03},
			{nfs3.TypeDir, 0o711, bob, 0x02},
			{nfs3.TypeDir, 0o700, alice, 0x1f},
			{nfs3.TypeDir, 0o000, root, 0x1f},
		} {
			fh := all[tt.t]
			e.call(root, nfs3.ProcSetAttr, fh, nfs3.SetAttr{SetUID: true, UID: alice.uid, SetGID: true, GID: alice.gid}, false).must("chown")
			e.call(root, nfs3.ProcSetAttr, fh, mode(tt.mode), false).must("chmod")
			for _, ask := range []uint32{everything, 0x01, 0x2c} {
				r := e.call(tt.who, nfs3.ProcAccess, fh, ask).must("access")
				e.same("access", r.post(), fh)
				if got := r.r.Uint32(); got != tt.want&ask {
					e.Errorf("type %d, mode %o: user %d asks %x and gets %x, want %x", tt.t, tt.mode, tt.who.uid, ask, got, tt.want&ask)
				}
				r.end("access")
			}
		}
	}},
	{"sixteen groups, and one more", func(e *wireEnv) {
		f := e.file("f", "x")
		e.call(root, nfs3.ProcSetAttr, f, nfs3.SetAttr{SetMode: true, Mode: 0o040, SetGID: true, GID: 5015}, false).must("chgrp")
		who := cred{uid: bob.uid, gid: bob.gid}
		for g := range uint32(16) {
			who.groups = append(who.groups, 5000+g)
		}
		e.call(who, nfs3.ProcRead, f, uint64(0), 1).want("the sixteenth group", nfs3.OK)
		who.groups[15] = 9999
		e.call(who, nfs3.ProcRead, f, uint64(0), 1).want("without it", nfs3.ErrAcces)
		who.groups = append(who.groups, 5015)
		e.xid++
		r := e.raw(message(e.xid, 2, nfs3.Number, nfs3.Version, nfs3.ProcRead, sunrpc.AuthSys, who.body(), encode(f, uint64(0), 1)))
		if !r.denied && r.rpc == 0 && nfs3.Status(r.r.Uint32()) == nfs3.OK {
			e.Error("seventeen groups were taken")
		}
	}},
	{"root with another group", func(e *wireEnv) {
		who := cred{gid: alice.gid}
		f := e.call(who, nfs3.ProcCreate, e.dir, "f", int(nfs3.Guarded), mode(0o640)).must("create").made().Handle
		d := e.call(who, nfs3.ProcMkdir, e.dir, "d", mode(0o770)).must("mkdir").made().Handle
		e.call(root, nfs3.ProcSetAttr, d, mode(0o2770), false).must("chmod")
		for _, fh := range [][]byte{f, d} {
			if a := e.attr(fh); a.UID != 0 || a.GID != alice.gid {
				e.Errorf("it belongs to %d:%d", a.UID, a.GID)
			}
		}
		g := e.call(root, nfs3.ProcCreate, d, "g", int(nfs3.Guarded), nfs3.SetAttr{SetMode: true, Mode: 0o600, SetUID: true, UID: bob.uid}).must("create").made().Handle
		if a := e.attr(g); a.UID != bob.uid || a.GID != alice.gid || a.Mode != 0o600 {
			e.Errorf("made in a setgid directory for somebody: %d:%d, mode %o", a.UID, a.GID, a.Mode)
		}
		e.call(who, nfs3.ProcSetAttr, f, mode(0o6755), false).must("chmod")
		if a := e.attr(f); a.Mode != 0o6755 {
			e.Errorf("mode %o", a.Mode)
		}
	}},
	{"listings", func(e *wireEnv) {
		want := map[string]uint64{}
		for i := range 300 {
			name := fmt.Sprintf("a-file-with-a-name-%03d", i)
			want[name] = e.attr(e.file(name, "")).FileID
		}
		for _, count := range []int{512, 1000, 4096, 1 << 20} {
			for _, plus := range []bool{false, true} {
				e.listed(want, count, plus)
			}
		}
		r := e.call(root, nfs3.ProcReadDir, e.dir, uint64(0), uint64(0xdeadbeef), 4096).want("a cookieverf that was never given", nfs3.OK, nfs3.ErrBadCookie)
		r.t.Logf("a listing that begins with a wrong cookieverf: status %d", r.status)
		e.call(root, nfs3.ProcReadDir, e.dir, uint64(0), uint64(0), 20).want("room for nothing", nfs3.ErrTooSmall)
		e.call(root, nfs3.ProcReadDirPlus, e.dir, uint64(0), uint64(0), 20, 20).want("room for nothing", nfs3.ErrTooSmall)
		e.call(root, nfs3.ProcSetAttr, e.dir, mode(0o711), false).must("chmod")
		e.call(bob, nfs3.ProcReadDir, e.dir, uint64(0), uint64(0), 4096).want("another's directory", nfs3.ErrAcces)
		e.call(bob, nfs3.ProcLookup, e.dir, "a-file-with-a-name-000").want("with x only", nfs3.OK)
	}},
	{"removing and renaming", func(e *wireEnv) {
		e.file("f", "x")
		d := e.mkdir(e.dir, "d", 0o755)
		in := e.mkdir(d, "in", 0o755)
		e.call(root, nfs3.ProcRemove, e.dir, "d").want("remove of a directory", nfs3.ErrIsDir)
		e.call(root, nfs3.ProcRmdir, e.dir, "f").want("rmdir of a file", nfs3.ErrNotDir)
		e.call(root, nfs3.ProcRmdir, e.dir, "d").want("rmdir of a full one", nfs3.ErrNotEmpty, nfs3.ErrExist)
		e.call(root, nfs3.ProcRemove, e.dir, "no").want("remove of nothing", nfs3.ErrNoEnt)
		e.call(root, nfs3.ProcRmdir, e.dir, "no").want("rmdir of nothing", nfs3.ErrNoEnt)
		e.call(root, nfs3.ProcRename, e.dir, "no", e.dir, "x").want("rename of nothing", nfs3.ErrNoEnt)
		e.call(root, nfs3.ProcRename, e.dir, "d", in, "x").want("rename into itself", nfs3.ErrInval)
		e.call(root, nfs3.ProcRename, e.dir, "f", e.dir, "d").want("file over directory", nfs3.ErrIsDir, nfs3.ErrExist)
		e.call(root, nfs3.ProcRename, e.dir, "d", e.dir, "f").want("directory over file", nfs3.ErrNotDir, nfs3.ErrExist)
		e.call(root, nfs3.ProcRename, e.dir, "f", e.dir, "f").want("to the same name", nfs3.OK)
		e.call(root, nfs3.ProcLink, in, e.dir, "l").want("link of a directory", nfs3.ErrIsDir, nfs3.ErrPerm, nfs3.ErrInval)
		e.call(root, nfs3.ProcLink, in, e.dir, "f").want("link over a name", nfs3.ErrExist, nfs3.ErrIsDir, nfs3.ErrPerm)
		e.call(bob, nfs3.ProcRemove, d, "in").want("another's directory", nfs3.ErrAcces)
		e.call(bob, nfs3.ProcCreate, d, "n", int(nfs3.Guarded), mode(0o644)).want("another's directory", nfs3.ErrAcces)
		e.call(bob, nfs3.ProcRename, e.dir, "f", d, "f").want("another's directory", nfs3.ErrAcces)
	}},
	{"calls that are not", func(e *wireEnv) {
		type want struct {
			denied bool
			rpc    []uint32
		}
		accepted := func(st ...uint32) want { return want{false, st} }
		getattr := encode(e.root)
		for _, tt := range []struct {
			name                      string
			rpcvers, prog, vers, proc uint32
			args                      []byte
			want                      want
		}{
			{"another version of RPC", 3, nfs3.Number, 3, 1, getattr, want{true, []uint32{0}}},
			{"a program that is not there", 2, 400000, 1, 0, nil, accepted(1)},
			{"version 1", 2, nfs3.Number, 1, 0, nil, accepted(2)},
			{"procedure 22", 2, nfs3.Number, 3, 22, nil, accepted(3)},
			{"no arguments", 2, nfs3.Number, 3, 1, nil, accepted(4)},
			{"a handle of 65 bytes", 2, nfs3.Number, 3, 1, encode(make([]byte, 65)), accepted(4)},
			{"a handle that lies", 2, nfs3.Number, 3, 1, encode(64, 5), accepted(4)},
			{"half a name", 2, nfs3.Number, 3, 3, append(encode(e.root), 0, 0, 0, 9, 'a'), accepted(4)},
			{"a createmode of 3", 2, nfs3.Number, 3, 8, encode(e.root, "n", 3), accepted(4)},
		} {
			e.xid++
			r := e.raw(message(e.xid, tt.rpcvers, tt.prog, tt.vers, tt.proc, sunrpc.AuthSys, root.body(), tt.args))
			if r.denied != tt.want.denied || !slices.Contains(tt.want.rpc, r.rpc) {
				e.Errorf("%s: denied %v, status %d", tt.name, r.denied, r.rpc)
			}
		}
		for _, flavor := range []uint32{0, 6, 99} { // none, RPCSEC_GSS, nothing
			e.xid++
			r := e.raw(message(e.xid, 2, nfs3.Number, 3, nfs3.ProcGetAttr, flavor, nil, getattr))
			if !r.denied && r.rpc == 0 && r.r.Uint32() == uint32(nfs3.OK) {
				e.Errorf("flavor %d was taken", flavor)
			}
		}
	}},
}

// listed wants a listing in replies of count bytes to hold exactly the names
// and fileids given, each reply to have no more bytes, and with plus the handles
// and attributes that LOOKUP gives.
func (e *wireEnv) listed(want map[string]uint64, count int, plus bool) {
	e.Helper()
	what := fmt.Sprintf("listing in %d bytes, plus %v", count, plus)
	cookie, verf := uint64(0), uint64(0)
	seen := map[string]bool{}
	for n := 0; ; n++ {
		args := []any{e.dir, cookie, verf, count}
		proc := uint32(nfs3.ProcReadDir)
		if plus {
			args, proc = append(args, count), nfs3.ProcReadDirPlus
		}
		r := e.call(root, proc, args...).must(what)
		if size := r.r.Len(); size > count {
			e.Errorf("%s: a reply of %d bytes", what, size)
		}
		e.same(what, r.post(), e.dir)
		verf = r.r.Uint64()
		list, eof := r.entries(plus)
		r.end(what)
		for i, x := range list {
			if cookie = x.Cookie; x.Name == "." || x.Name == ".." {
				continue
			}
			if seen[x.Name] || want[x.Name] != x.FileID {
				e.Errorf("%s: %q with fileid %d, want %d, twice %v", what, x.Name, x.FileID, want[x.Name], seen[x.Name])
			}
			seen[x.Name] = true
			if plus && i == 3 && x.Handle != nil {
				e.same(what, x.Attr, x.Handle)
				l := e.call(root, nfs3.ProcLookup, e.dir, x.Name).must("lookup")
				if fh := l.handle(); !bytes.Equal(fh, x.Handle) {
					e.Errorf("%s: handle %x, LOOKUP gives %x", what, x.Handle, fh)
				}
			}
		}
		if eof {
			break
		}
		if len(list) == 0 || n > 1000 {
			e.Fatalf("%s: no end", what)
		}
	}
	if len(seen) != len(want) {
		e.Errorf("%s: %d names of %d", what, len(seen), len(want))
	}
}

// TestWireClient tries the encoder: what the checks send must be right.
func TestWireClient(t *testing.T) {
	got := encode([]byte("abc"), 7, uint64(8), true, nfs3.SetAttr{SetUID: true, UID: 9, SetMtime: nfs3.SetToClient, Mtime: nfs3.Time{Sec: 1, Nsec: 2}})
	var w xdr.Writer
	for _, v := range []uint32{3, 0x61626300, 7, 0, 8, 1, 0, 1, 9, 0, 0, 0, 2, 1, 2} {
		w.Uint32(v)
	}
	if !bytes.Equal(got, w.Buf) {
		t.Errorf("% x, want % x", got, w.Buf)
	}
}
