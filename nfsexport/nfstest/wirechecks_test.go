package nfstest_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"rubus/nfsexport/nfs3"
)

var wireNameChecks = []wireCheck{
	{"attributes before and after", func(e *wireEnv) {
		var f []byte
		for _, step := range []struct {
			name string
			proc uint32
			args func() []any
			made bool
		}{
			{"create", nfs3.ProcCreate, func() []any { return []any{"f", int(nfs3.Unchecked), mode(0o640)} }, true},
			{"mkdir", nfs3.ProcMkdir, func() []any { return []any{"d", mode(0o750)} }, true},
			{"symlink", nfs3.ProcSymlink, func() []any { return []any{"l", nfs3.SetAttr{}, "text"} }, true},
			{"mknod", nfs3.ProcMknod, func() []any { return []any{"p", int(nfs3.TypeFifo), mode(0o600)} }, true},
			{"remove", nfs3.ProcRemove, func() []any { return []any{"p"} }, false},
			{"rmdir", nfs3.ProcRmdir, func() []any { return []any{"d"} }, false},
		} {
			before := e.attr(e.dir)
			r := e.call(root, step.proc, append([]any{e.dir}, step.args()...)...).must(step.name)
			var w nfs3.Wcc
			if step.made {
				n := r.made()
				w = n.Dir
				e.same(step.name, n.Attr, n.Handle)
				if step.name == "create" {
					f = n.Handle
				}
			} else {
				w = r.wcc()
			}
			r.end(step.name)
			e.changed(step.name, before, w, e.dir)
		}
		before := e.attr(f)
		r := e.call(root, nfs3.ProcSetAttr, f, mode(0o4711), false).must("setattr")
		e.changed("setattr", before, r.wcc(), f)
		r.end("setattr")
		before = e.attr(f)
		r = e.call(root, nfs3.ProcWrite, f, uint64(3), 4, int(nfs3.FileSync), "data").must("write")
		e.changed("write", before, r.wcc(), f)
		before, dir := e.attr(f), e.attr(e.dir)
		r = e.call(root, nfs3.ProcLink, f, e.dir, "g").must("link")
		e.same("link", r.post(), f)
		e.changed("link", dir, r.wcc(), e.dir)
		r.end("link")
		d2 := e.mkdir(e.dir, "d2", 0o755)
		dir, to := e.attr(e.dir), e.attr(d2)
		r = e.call(root, nfs3.ProcRename, e.dir, "g", d2, "h").must("rename")
		e.changed("rename", dir, r.wcc(), e.dir)
		e.changed("rename", to, r.wcc(), d2)
		r.end("rename")
		if after := e.attr(f); after.Nlink != 2 || after.FileID != before.FileID {
			e.Errorf("after a link and a rename: %+v", after)
		}
	}},
	{"results of the rest", func(e *wireEnv) {
		all := e.every()
		for t, fh := range all {
			if a := e.attr(fh); a.Type != t || t == nfs3.TypeChar && (a.Major != 5 || a.Minor != 6) {
				e.Errorf("type %d: %+v", t, a)
			}
			for _, proc := range []uint32{nfs3.ProcFSStat, nfs3.ProcFSInfo, nfs3.ProcPathConf} {
				r := e.call(root, proc, fh).must("about the file system")
				e.same("about the file system", r.post(), fh)
				r.r.Skip(map[uint32]int{nfs3.ProcFSStat: 52, nfs3.ProcFSInfo: 48, nfs3.ProcPathConf: 24}[proc])
				r.end("about the file system")
			}
		}
		r := e.call(root, nfs3.ProcReadLink, all[nfs3.TypeLink]).must("readlink")
		e.same("readlink", r.post(), all[nfs3.TypeLink])
		if text := r.r.String(4096); text != "target" {
			e.Errorf("readlink gives %q", text)
		}
		r.end("readlink")
		r = e.call(root, nfs3.ProcLookup, e.dir, "file").must("lookup")
		if fh := r.handle(); !bytes.Equal(fh, all[nfs3.TypeReg]) {
			e.Errorf("lookup gives %x, create gave %x", fh, all[nfs3.TypeReg])
		}
		e.same("lookup", r.post(), all[nfs3.TypeReg])
		e.same("lookup", r.post(), e.dir)
		r.end("lookup")
	}},
	{"guard", func(e *wireEnv) {
		f := e.file("f", "x")
		ctime := e.attr(f).Ctime
		wrong := ctime
		wrong.Nsec ^= 1
		e.call(root, nfs3.ProcSetAttr, f, mode(0o600), true, wrong).want("another ctime", nfs3.ErrNotSync)
		if a := e.attr(f); a.Mode != 0o644 || a.Ctime != ctime {
			e.Errorf("changed nevertheless: %+v", a)
		}
		e.call(root, nfs3.ProcSetAttr, f, mode(0o600), true, ctime).want("the right ctime", nfs3.OK)
		if a := e.attr(f); a.Mode != 0o600 {
			e.Errorf("mode %o", a.Mode)
		}
	}},
	{"create exclusive", func(e *wireEnv) {
		create := func(name string, verf uint64) *reply {
			return e.call(root, nfs3.ProcCreate, e.dir, name, int(nfs3.Exclusive), verf)
		}
		const verf = 0x1122334455667788
		fh := create("f", verf).must("create").made().Handle
		if again := create("f", verf).must("again").made().Handle; !bytes.Equal(fh, again) {
			e.Error("the same call gives another file")
		}
		create("f", verf+1).want("another verifier", nfs3.ErrExist)
		create("f", verf^1<<50).want("another verifier", nfs3.ErrExist)
		e.call(root, nfs3.ProcSetAttr, fh, nfs3.SetAttr{SetMode: true, Mode: 0o600, SetAtime: nfs3.SetToServer, SetMtime: nfs3.SetToServer}, false).must("setattr")
		create("f", verf).want("in use", nfs3.ErrExist)
		e.mkdir(e.dir, "d", 0o755)
		create("d", verf).want("a directory", nfs3.ErrExist)
	}},
	{"create guarded and unchecked", func(e *wireEnv) {
		f := e.file("f", "text")
		e.call(root, nfs3.ProcCreate, e.dir, "f", int(nfs3.Guarded), mode(0o600)).want("guarded", nfs3.ErrExist)
		e.call(root, nfs3.ProcCreate, e.dir, "f", int(nfs3.Unchecked), mode(0o600)).want("unchecked", nfs3.OK)
		if got := e.read(f); got != "text" {
			e.Errorf("unchecked left %q", got)
		}
		e.call(root, nfs3.ProcCreate, e.dir, "f", int(nfs3.Unchecked), nfs3.SetAttr{SetSize: true}).want("unchecked, size 0", nfs3.OK)
		if a := e.attr(f); a.Size != 0 || a.Mode != 0o644 {
			e.Errorf("unchecked with size 0: %+v", a)
		}
	}},
	{"types that are not made", func(e *wireEnv) {
		for _, t := range []nfs3.FileType{nfs3.TypeReg, nfs3.TypeDir, nfs3.TypeLink} {
			e.call(root, nfs3.ProcMknod, e.dir, "n", int(t)).want(fmt.Sprintf("mknod of type %d", t), nfs3.ErrBadType)
		}
		e.call(root, nfs3.ProcMknod, e.dir, "n", int(nfs3.TypeChar), mode(0o600), 1<<12, 0).want("a major number of 13 bits", nfs3.ErrInval)
		if n := e.names(e.dir, 4096); len(n) != 0 {
			e.Errorf("made: %q", n)
		}
	}},
	{"bad and stale handles", func(e *wireEnv) {
		gone := e.file("f", "x")
		e.call(root, nfs3.ProcRemove, e.dir, "f").must("remove")
		wasDir := e.mkdir(e.dir, "d", 0o755)
		e.call(root, nfs3.ProcRmdir, e.dir, "d").must("rmdir")
		bad := bytes.Clone(e.root)
		for i := range bad {
			bad[i] ^= 0xa5
		}
		for _, tt := range []struct {
			name string
			fh   []byte
			want []nfs3.Status
		}{
			{"of a file that is gone", gone, []nfs3.Status{nfs3.ErrStale}},
			{"of a directory that is gone", wasDir, []nfs3.Status{nfs3.ErrStale}},
			{"of nothing", bad, []nfs3.Status{nfs3.ErrBadHandle, nfs3.ErrStale}},
			{"of no bytes", nil, []nfs3.Status{nfs3.ErrBadHandle}},
			{"of one byte", []byte{1}, []nfs3.Status{nfs3.ErrBadHandle, nfs3.ErrStale}},
			{"cut off", e.root[:len(e.root)-1], []nfs3.Status{nfs3.ErrBadHandle, nfs3.ErrStale}},
			{"of 64 bytes", make([]byte, 64), []nfs3.Status{nfs3.ErrBadHandle, nfs3.ErrStale}},
		} {
			h := "a handle " + tt.name
			for _, c := range [][]any{
				{nfs3.ProcGetAttr, tt.fh},
				{nfs3.ProcSetAttr, tt.fh, mode(0o600), false},
				{nfs3.ProcLookup, tt.fh, "n"},
				{nfs3.ProcAccess, tt.fh, 1},
				{nfs3.ProcReadLink, tt.fh},
				{nfs3.ProcRead, tt.fh, uint64(0), 10},
				{nfs3.ProcWrite, tt.fh, uint64(0), 1, int(nfs3.Unstable), "x"},
				{nfs3.ProcCreate, tt.fh, "n", int(nfs3.Guarded), mode(0o644)},
				{nfs3.ProcMkdir, tt.fh, "n", mode(0o755)},
				{nfs3.ProcSymlink, tt.fh, "n", nfs3.SetAttr{}, "x"},
				{nfs3.ProcMknod, tt.fh, "n", int(nfs3.TypeFifo), mode(0o644)},
				{nfs3.ProcRemove, tt.fh, "n"},
				{nfs3.ProcRmdir, tt.fh, "n"},
				{nfs3.ProcRename, tt.fh, "n", e.dir, "m"},
				{nfs3.ProcRename, e.dir, "n", tt.fh, "m"},
				{nfs3.ProcLink, tt.fh, e.dir, "n"},
				{nfs3.ProcLink, e.root, tt.fh, "n"},
				{nfs3.ProcReadDir, tt.fh, uint64(0), uint64(0), 4096},
				{nfs3.ProcReadDirPlus, tt.fh, uint64(0), uint64(0), 4096, 4096},
				{nfs3.ProcFSStat, tt.fh},
				{nfs3.ProcFSInfo, tt.fh},
				{nfs3.ProcPathConf, tt.fh},
				{nfs3.ProcCommit, tt.fh, uint64(0), 0},
			} {
				want := tt.want
				if c[0] == nfs3.ProcLink { // which of two comes first is nobody's to say
					want = append(slices.Clone(want), nfs3.ErrIsDir)
				}
				e.call(root, uint32(c[0].(int)), c[1:]...).want(fmt.Sprintf("procedure %d with %s", c[0], h), want...)
			}
		}
	}},
	{"procedures on other kinds", func(e *wireEnv) {
		for t, fh := range e.every() {
			on := func(what string) string { return fmt.Sprintf("%s on type %d", what, t) }
			if t != nfs3.TypeDir {
				e.call(root, nfs3.ProcLookup, fh, "n").want(on("lookup"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcCreate, fh, "n", int(nfs3.Guarded), mode(0o644)).want(on("create"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcMkdir, fh, "n", mode(0o755)).want(on("mkdir"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcSymlink, fh, "n", nfs3.SetAttr{}, "x").want(on("symlink"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcMknod, fh, "n", int(nfs3.TypeFifo), mode(0)).want(on("mknod"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcRemove, fh, "n").want(on("remove"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcRmdir, fh, "n").want(on("rmdir"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcRename, fh, "n", e.dir, "m").want(on("rename"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcRename, e.dir, "file", fh, "m").want(on("rename"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcLink, fh, fh, "m").want(on("link"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcReadDir, fh, uint64(0), uint64(0), 4096).want(on("readdir"), nfs3.ErrNotDir)
				e.call(root, nfs3.ProcReadDirPlus, fh, uint64(0), uint64(0), 4096, 4096).want(on("readdirplus"), nfs3.ErrNotDir)
			}
			if t != nfs3.TypeLink {
				e.call(root, nfs3.ProcReadLink, fh).want(on("readlink"), nfs3.ErrInval)
			}
			if t != nfs3.TypeReg {
				io := nfs3.ErrInval
				if t == nfs3.TypeDir {
					io = nfs3.ErrIsDir
				}
				e.call(root, nfs3.ProcRead, fh, uint64(0), 10).want(on("read"), io)
				e.call(root, nfs3.ProcWrite, fh, uint64(0), 1, int(nfs3.Unstable), "x").want(on("write"), io)
				e.call(root, nfs3.ProcSetAttr, fh, nfs3.SetAttr{SetSize: true}, false).want(on("a size"), io)
				e.call(root, nfs3.ProcCommit, fh, uint64(0), 0).want(on("commit"), io)
			}
			e.call(root, nfs3.ProcLink, e.dir, e.dir, "n").want("link of a directory", nfs3.ErrIsDir, nfs3.ErrPerm, nfs3.ErrInval)
		}
	}},
	{"names that no directory has", func(e *wireEnv) {
		f := e.file("f", "x")
		d := e.mkdir(e.dir, "d", 0o755)
		for _, name := range []string{"", "a/b", "/", longName, ".", ".."} {
			want := []nfs3.Status{nfs3.ErrAcces}
			switch name {
			case longName:
				want = []nfs3.Status{nfs3.ErrNameTooLong}
			case ".", "..":
				want = []nfs3.Status{nfs3.ErrExist, nfs3.ErrAcces, nfs3.ErrPerm, nfs3.ErrInval}
			case "":
				want = []nfs3.Status{nfs3.ErrAcces, nfs3.ErrNoEnt, nfs3.ErrPerm, nfs3.ErrExist}
			}
			on := func(what string) string { return fmt.Sprintf("%s of %.10q", what, name) }
			if name != "." && name != ".." && name != "" {
				e.call(root, nfs3.ProcLookup, d, name).want(on("lookup"), want...)
			}
			e.call(root, nfs3.ProcCreate, d, name, int(nfs3.Guarded), mode(0o644)).want(on("create"), want...)
			e.call(root, nfs3.ProcMkdir, d, name, mode(0o755)).want(on("mkdir"), want...)
			e.call(root, nfs3.ProcSymlink, d, name, nfs3.SetAttr{}, "x").want(on("symlink"), want...)
			e.call(root, nfs3.ProcMknod, d, name, int(nfs3.TypeFifo), mode(0)).want(on("mknod"), want...)
			e.call(root, nfs3.ProcRemove, d, name).want(on("remove"), want...)
			e.call(root, nfs3.ProcRmdir, d, name).want(on("rmdir"), append(want, nfs3.ErrNotEmpty)...)
			e.call(root, nfs3.ProcRename, e.dir, "f", d, name).want(on("rename to"), want...)
			e.call(root, nfs3.ProcRename, d, name, e.dir, "g").want(on("rename from"), want...)
			e.call(root, nfs3.ProcLink, f, d, name).want(on("link"), want...)
		}
		if n := e.names(d, 4096); len(n) != 0 {
			e.Errorf("made: %q", n)
		}
		e.call(root, nfs3.ProcSymlink, d, "l", nfs3.SetAttr{}, "").want("a link to nothing", nfs3.ErrNoEnt, nfs3.ErrInval)
		e.call(root, nfs3.ProcSymlink, d, "l", nfs3.SetAttr{}, strings.Repeat("x", 4096)).want("a long link", nfs3.ErrNameTooLong)
		r := e.call(root, nfs3.ProcLookup, e.root, "..").must("lookup of .. in the root")
		if fh := r.handle(); e.attr(fh).FileID != e.attr(e.root).FileID {
			e.Error(".. of the root is not the root")
		}
	}},
}
