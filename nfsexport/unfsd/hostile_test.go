package unfsd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

// refused are statuses that refuse a call.
var refused = []nfs3.Status{nfs3.ErrBadHandle, nfs3.ErrAcces, nfs3.ErrStale}

// Each call of a board's root user that asks for too much is answered with what
// RFC 1813 has for it, at once, and the connection goes on.
func TestHostileCalls(t *testing.T) {
	x := newArena(t, "/proc/self/exe")
	before := tree(t, x.b.Dir)
	c, err := dial(x.a.Client, 2049, true)
	must(t, err)
	defer c.Close()
	mine, dir, root := x.files["mine"], x.files["dir"], x.rootA
	long, gone := strings.Repeat("n", 256), gone(t)
	one := func(st ...nfs3.Status) []nfs3.Status { return st }
	for _, call := range []struct {
		name string
		proc uint32
		args []byte
		want []nfs3.Status
	}{
		{"B's root", nfs3.ProcGetAttr, args(x.rootB), one(nfs3.ErrAcces)},
		{"B's file", nfs3.ProcLookup, args(x.rootB, "secret"), one(nfs3.ErrAcces)},
		{"B's directory as a target", nfs3.ProcRename, args(root, "mine", x.rootB, "mine"), append(one(nfs3.ErrXDev), refused...)},
		{"a link into B's", nfs3.ProcLink, args(mine, x.rootB, "mine"), append(one(nfs3.ErrXDev), refused...)},
		{"a removed export's root", nfs3.ProcGetAttr, args(gone), one(nfs3.ErrStale)},
		{"a name in a removed export", nfs3.ProcLookup, args(gone, "mine"), one(nfs3.ErrStale)},
		{"a removed export as a target", nfs3.ProcRename, args(root, "mine", gone, "mine"), one(nfs3.ErrXDev, nfs3.ErrStale)},
		{"a removed export's object here", nfs3.ProcGetAttr, args(append(bytes.Clone(root[:11]), gone[11:]...)), one(nfs3.ErrBadHandle)},
		{"no handle", nfs3.ProcGetAttr, args([]byte{}), one(nfs3.ErrBadHandle)},
		{"a short handle", nfs3.ProcGetAttr, args(root[:8]), one(nfs3.ErrBadHandle)},
		{"64 bytes of noise", nfs3.ProcGetAttr, args(bytes.Repeat([]byte{0xa5}, 64)), one(nfs3.ErrBadHandle)},
		{"a name with a slash", nfs3.ProcLookup, args(root, "dir/x"), one(nfs3.ErrAcces)},
		{"a name with NUL", nfs3.ProcLookup, args(root, "a\x00b"), one(nfs3.ErrAcces)},
		{"an empty name", nfs3.ProcLookup, args(root, ""), one(nfs3.ErrAcces)},
		{".. of the root", nfs3.ProcLookup, args(root, ".."), one(nfs3.OK)},
		{"making ..", nfs3.ProcMkdir, args(root, "..", modeOnly(0o755)), one(nfs3.ErrExist)},
		{"removing ..", nfs3.ProcRmdir, args(dir, ".."), one(nfs3.ErrAcces)}, // as nfsd says
		{"removing .", nfs3.ProcRmdir, args(dir, "."), one(nfs3.ErrAcces)},
		{"256 bytes of name", nfs3.ProcCreate, args(root, long, 0, modeOnly(0o644)), one(nfs3.ErrNameTooLong)},
		{"renaming to a path", nfs3.ProcRename, args(root, "mine", root, "../mine"), one(nfs3.ErrAcces)},
		{"a symlink's huge text", nfs3.ProcSymlink, args(root, "l", modeOnly(0o777), strings.Repeat("x", 5000)), one(nfs3.ErrNameTooLong)},
		{"reading at 2^63", nfs3.ProcRead, args(mine, uint64(1)<<63, 4096), one(nfs3.OK, nfs3.ErrInval)},
		{"reading at 2^64-1", nfs3.ProcRead, args(mine, uint64(math.MaxUint64), 4096), one(nfs3.OK, nfs3.ErrInval)},
		{"reading 4 GiB", nfs3.ProcRead, args(mine, uint64(0), uint32(math.MaxUint32)), one(nfs3.OK)},
		{"writing at 2^63-1", nfs3.ProcWrite, args(mine, uint64(math.MaxInt64), 1, 2, []byte("x")), one(nfs3.ErrFBig, nfs3.ErrInval)},
		{"writing at 2^64-1", nfs3.ProcWrite, args(mine, uint64(math.MaxUint64), 1, 2, []byte("x")), one(nfs3.ErrFBig, nfs3.ErrInval)},
		{"a size of 2^64-1", nfs3.ProcSetAttr, args(mine, verbatim(args(0, 0, 0, 1, uint64(math.MaxUint64), 0, 0)), 0), one(nfs3.ErrFBig, nfs3.ErrInval)},
		{"a commit beyond the end", nfs3.ProcCommit, args(mine, uint64(math.MaxUint64), uint32(math.MaxUint32)), one(nfs3.OK, nfs3.ErrInval)},
		{"a time of 2^32-1 ns", nfs3.ProcSetAttr, args(mine, verbatim(args(0, 0, 0, 0, 2, 1, uint32(math.MaxUint32), 0)), 0), one(nfs3.ErrInval)},
		{"READDIR with room for nothing", nfs3.ProcReadDir, args(root, uint64(0), uint64(0), 1), one(nfs3.ErrTooSmall)},
		{"READDIR with room for all", nfs3.ProcReadDir, args(root, uint64(0), uint64(0), uint32(math.MaxUint32)), one(nfs3.OK)},
		{"READDIR from a wrong cookie", nfs3.ProcReadDir, args(root, uint64(math.MaxUint64), uint64(0), 4096), one(nfs3.OK, nfs3.ErrBadCookie)},
		{"READDIR of a file", nfs3.ProcReadDir, args(mine, uint64(0), uint64(0), 4096), one(nfs3.ErrNotDir)},
		{"LOOKUP in a file", nfs3.ProcLookup, args(mine, "x"), one(nfs3.ErrNotDir)},
		{"a hard link to a directory", nfs3.ProcLink, args(dir, root, "d2"), one(nfs3.ErrIsDir, nfs3.ErrPerm)},
		{"MKNOD of a file", nfs3.ProcMknod, args(root, "n", 1, modeOnly(0o644)), one(nfs3.ErrBadType)},
		{"CREATE in a mode that is none", nfs3.ProcCreate, args(root, "n", 7), nil},
		// Nothing of a board may make the server wait or touch the host's devices.
		{"reading a fifo", nfs3.ProcRead, args(x.files["fifo"], uint64(0), 4096), one(nfs3.ErrInval)},
		{"writing a fifo", nfs3.ProcWrite, args(x.files["fifo"], uint64(0), 1, 2, []byte("x")), one(nfs3.ErrInval)},
		{"cutting a fifo", nfs3.ProcSetAttr, args(x.files["fifo"], verbatim(args(0, 0, 0, 1, uint64(0), 0, 0)), 0), one(nfs3.ErrInval)},
		{"reading /dev/zero", nfs3.ProcRead, args(x.files["zero"], uint64(0), 4096), one(nfs3.ErrInval)},
		{"writing /dev/null", nfs3.ProcWrite, args(x.files["null"], uint64(0), 1, 2, []byte("x")), one(nfs3.ErrInval)},
		{"committing a device", nfs3.ProcCommit, args(x.files["null"], uint64(0), 0), one(nfs3.ErrInval, nfs3.OK)},
		{"reading a socket", nfs3.ProcRead, args(x.files["socket"], uint64(0), 4096), one(nfs3.ErrInval)},
		{"reading a symlink's target", nfs3.ProcRead, args(x.files["out"], uint64(0), 4096), one(nfs3.ErrInval)},
		{"LOOKUP through a symlink", nfs3.ProcLookup, args(x.files["out"], "x"), one(nfs3.ErrNotDir)},
	} {
		st, r, err := c.nfs(call.proc, call.args)
		if call.want == nil {
			var e *errRPC
			if !errors.As(err, &e) || e.code != 4 {
				t.Errorf("%s: %v, %v, want GARBAGE_ARGS", call.name, st, err)
			}
			continue
		}
		if err != nil || !contains(call.want, st) {
			t.Errorf("%s: %v, %v, want %v", call.name, st, err, call.want)
			continue
		}
		if bytes.Contains(r.Rest(), []byte("SECRET")) && call.name != "reading a symlink's target" {
			t.Errorf("%s: a secret comes out", call.name)
		}
	}
	for bit := range len(root) * 8 {
		if st, _, err := c.nfs(nfs3.ProcGetAttr, args(flipped(root, bit))); err != nil || !contains(refused, st) {
			t.Fatalf("a handle with bit %d flipped: %v, %v", bit, st, err)
		}
	}
	// The root is all there is above: ".." of it is itself.
	if up, err := c.lookup(root, ".."); err != nil || !bytes.Equal(up, root) {
		t.Errorf("above the root is %x, %v", up, err)
	}
	x.intact(t, before)
}

// A lease that somebody on the host holds delays nobody: who opens a leased file
// would wait for its holder, 45 s by default.
func TestLease(t *testing.T) {
	x := newArena(t, "/proc/self/exe")
	f, err := os.OpenFile(filepath.Join(x.a.Dir, "mine"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatalf("taking a lease on a file of an overlay: %v", err)
	}
	c, err := dial(x.a.Client, 2049, true)
	must(t, err)
	defer c.Close()
	for _, call := range []struct {
		proc uint32
		args []byte
	}{
		{nfs3.ProcRead, args(x.files["mine"], uint64(0), 10)},
		{nfs3.ProcWrite, args(x.files["mine"], uint64(0), 1, 2, []byte("x"))},
		{nfs3.ProcSetAttr, args(x.files["mine"], verbatim(args(0, 0, 0, 1, uint64(0), 0, 0)), 0)},
		{nfs3.ProcCommit, args(x.files["mine"], uint64(0), 0)},
	} {
		// JUKEBOX: the client comes again. Silence would be a thread that hangs.
		if st, _, err := c.nfs(call.proc, call.args); err != nil || (st != nfs3.OK && st != nfs3.ErrJukebox) {
			t.Errorf("%s of a leased file: %v, %v", nfs3.ProcName(call.proc), st, err)
		}
	}
}

func contains(list []nfs3.Status, st nfs3.Status) bool {
	for _, s := range list {
		if s == st {
			return true
		}
	}
	return false
}

// Records and headers that lie: what can be answered is, the rest closes the
// connection, and nothing waits.
func TestHostileRecords(t *testing.T) {
	x := newArena(t, "/proc/self/exe")
	getattr := args(x.rootA)
	groups := func(n int) cred {
		c := cred{}
		for i := range n {
			c.groups = append(c.groups, uint32(i))
		}
		return c
	}
	// header is a call with any credential and verifier.
	header := func(xid, flavor uint32, body []byte, verf uint32, verfBody []byte, a []byte) []byte {
		var w xdr.Writer
		for _, v := range []uint32{xid, 0, 2, nfs3.Number, nfs3.Version, nfs3.ProcGetAttr} {
			w.Uint32(v)
		}
		w.Uint32(flavor)
		w.Opaque(body)
		w.Uint32(verf)
		w.Opaque(verfBody)
		return append(w.Buf, a...)
	}
	good := func(xid uint32, a []byte) []byte {
		return message(xid, nfs3.Number, nfs3.Version, nfs3.ProcGetAttr, cred{}, a)
	}
	lying := func(n uint32) []byte { // a handle that says it has n bytes
		return append(binary.BigEndian.AppendUint32(nil, n), x.rootA...)
	}
	bytewise := func(m []byte) (out []byte) {
		for i, b := range m {
			n := uint32(1)
			if i == len(m)-1 {
				n |= 1 << 31
			}
			out = append(binary.BigEndian.AppendUint32(out, n), b)
		}
		return out
	}
	for _, c := range []struct {
		name string
		send []byte
		want string
	}{
		{"a good call", record(good(1, getattr)), "OK"},
		{"in fragments of one byte", bytewise(good(1, getattr)), "OK"},
		{"16 groups", record(message(1, nfs3.Number, 3, nfs3.ProcGetAttr, groups(16), getattr)), "OK"},
		{"17 groups", record(message(1, nfs3.Number, 3, nfs3.ProcGetAttr, groups(17), getattr)), "denied"},
		{"65,535 groups", record(message(1, nfs3.Number, 3, nfs3.ProcGetAttr, groups(65535), getattr)), "denied or closed"},
		{"AUTH_NONE", record(header(1, 0, nil, 0, nil, getattr)), "denied"},
		{"RPCSEC_GSS", record(header(1, 6, make([]byte, 20), 0, nil, getattr)), "denied"},
		{"an unknown flavour", record(header(1, 390003, nil, 0, nil, getattr)), "denied"},
		{"a credential that is cut off", record(header(1, 1, []byte{0, 0, 0, 1, 0, 0}, 0, nil, getattr)), "denied"},
		{"a machine name of 10,000 bytes", record(header(1, 1, args(1, strings.Repeat("m", 10000), 0, 0, 0), 0, nil, getattr)), "denied or closed"},
		{"a verifier of 400 bytes", record(header(1, 1, args(1, "m", 0, 0, 0), 0, make([]byte, 400), getattr)), "OK or denied"},
		{"a verifier of 401 bytes", record(header(1, 1, args(1, "m", 0, 0, 0), 0, make([]byte, 401), getattr)), "denied or closed"},
		{"another RPC version", record(append([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3}, good(1, getattr)[12:]...)), "denied"},
		{"another program", record(message(1, 100227, 3, 0, cred{}, nil)), "code 1"},
		{"another version", record(message(1, nfs3.Number, 4, 0, cred{}, nil)), "code 2"},
		{"procedure 22", record(message(1, nfs3.Number, 3, 22, cred{}, nil)), "code 3"},
		{"procedure 2^32-1", record(message(1, nfs3.Number, 3, math.MaxUint32, cred{}, nil)), "code 3"},
		{"no arguments", record(good(1, nil)), "code 4"},
		{"a handle longer than the record", record(good(1, lying(1000))), "code 4"},
		{"a handle of 2^32-1 bytes", record(good(1, lying(math.MaxUint32))), "code 4"},
		{"a handle of 65 bytes", record(good(1, args(make([]byte, 65)))), "code 4 or BADHANDLE"},
		{"a reply", record(append([]byte{0, 0, 0, 1, 0, 0, 0, 1}, make([]byte, 40)...)), "closed or silence"},
		{"four bytes", record([]byte{1, 2, 3, 4}), "closed or silence"},
		{"an empty record", record(nil), "closed or silence"},
		{"a record of 2 GiB", []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, "closed"},
		{"a fragment of 2 GiB that is not the last", []byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4}, "closed"},
		{"100,000 empty fragments", make([]byte, 400000), "closed or silence"},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "closed"},
		{"TLS", []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, "closed or silence"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := dial(x.a.Client, 2049, true)
			must(t, err)
			defer nc.Close()
			go nc.Write(c.send) //nolint:errcheck // what is not read is no error
			got := outcomeOf(t, nc, c.want)
			if !strings.Contains(c.want, got) {
				t.Errorf("the answer is %q, want %q", got, c.want)
			}
		})
	}
	// After all that a good call is answered.
	nc, err := dial(x.a.Client, 2049, true)
	must(t, err)
	defer nc.Close()
	if st, _, err := nc.nfs(nfs3.ProcGetAttr, getattr); err != nil || st != nfs3.OK {
		t.Errorf("afterwards: %v, %v", st, err)
	}
}

// outcomeOf says in a word how the server takes what was sent. Where silence
// will do, a call that follows must be answered or the connection be closed.
func outcomeOf(t *testing.T, c *raw, want string) string {
	t.Helper()
	wait := patience
	if strings.Contains(want, "silence") {
		wait = 300 * time.Millisecond
	}
	must(t, c.SetReadDeadline(time.Now().Add(wait)))
	var head [4]byte
	_, err := io.ReadFull(c, head[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silence"
	case err != nil:
		return "closed"
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:])&^(1<<31))
	if _, err := io.ReadFull(c, b); err != nil {
		return "closed"
	}
	r, err := results(b, 1)
	var e *errRPC
	switch {
	case errors.As(err, &e) && e.stat == 1:
		return "denied"
	case errors.As(err, &e):
		return fmt.Sprintf("code %d", e.code)
	case err != nil:
		return err.Error()
	}
	return nfs3.Status(r.Uint32()).String()
}

// MOUNT gives no handle of what is not the caller's, whatever the path.
func TestHostileMounts(t *testing.T) {
	x := newArena(t, "/proc/self/exe")
	for _, path := range []string{
		x.b.Path, "", "/", ".", "..", "/..", x.a.Path + "/../" + strings.TrimPrefix(x.b.Path, "/"), x.a.Path + "/dir", "/etc",
		x.a.Dir, strings.Repeat("/", 1024), strings.Repeat("a", 1025), "/\x00", x.a.Path + "\x00",
	} {
		if h, err := mountRoot(x.a.Client, path); err == nil {
			t.Errorf("MOUNT of %.40q gives %x", path, h)
		}
	}
	// An upright one goes on.
	if _, err := mountRoot(x.a.Client, x.a.Path); err != nil {
		t.Error(err)
	}
	c, err := dial(x.a.Client, 20048, true)
	must(t, err)
	defer c.Close()
	for proc := range uint32(8) {
		_, err := c.call(mount3.Number, 3, proc, cred{}, bytes.Repeat([]byte{0xff}, 40))
		var e *errRPC
		if err != nil && !errors.As(err, &e) {
			t.Errorf("MOUNT procedure %d with noise: %v", proc, err)
		}
	}
}
