package nfs3

import (
	"strings"
	"testing"
	"time"
)

// TestAgain is the table of again.go: calls that come again after a kill.
func TestAgain(t *testing.T) {
	begun := time.Unix(1_700_000_000, 500e6)
	after := Time{1_700_000_000, 700e6}
	before := Time{1_700_000_000, 100e6}
	tick := Time{1_700_000_000, 496e6} // the kernel's clock lags
	future := Time{1_700_000_000 + 2<<25, 0}

	guarded := args("dir", "n", 1, SetAttr{})
	set := SetAttr{SetMode: true, Mode: 0o600}
	for _, tc := range []struct {
		name  string
		proc  uint32
		args  []byte
		fails string // the method that fails
		st    Status
		is    Attr // what is there now
		gone  bool // nothing is there under the name
		want  Status
	}{
		{"create", ProcCreate, guarded, "create", ErrExist, Attr{Type: TypeReg, Ctime: after}, false, OK},
		{"create, clock behind", ProcCreate, guarded, "create", ErrExist, Attr{Type: TypeReg, Ctime: tick}, false, OK},
		{"create, older file", ProcCreate, guarded, "create", ErrExist, Attr{Type: TypeReg, Ctime: before}, false, ErrExist},
		{"create, a directory", ProcCreate, guarded, "create", ErrExist, Attr{Type: TypeDir, Ctime: after}, false, ErrExist},
		{"create, another failure", ProcCreate, guarded, "create", ErrAcces, Attr{Type: TypeReg, Ctime: after}, false, ErrAcces},
		{"exclusive, no verifier yet", ProcCreate, args("dir", "n", 2, 7, 8), "create", ErrExist, Attr{Type: TypeReg, Ctime: after}, false, OK},
		{"exclusive, older file", ProcCreate, args("dir", "n", 2, 7, 8), "create", ErrExist, Attr{Type: TypeReg, Ctime: before}, false, ErrExist},
		{"exclusive, written to", ProcCreate, args("dir", "n", 2, 7, 8), "create", ErrExist, Attr{Type: TypeReg, Size: 1, Ctime: after}, false, ErrExist},
		{"mkdir", ProcMkdir, args("dir", "n", SetAttr{}), "mkdir", ErrExist, Attr{Type: TypeDir, Ctime: after}, false, OK},
		{"mkdir as a lock", ProcMkdir, args("dir", "n", SetAttr{}), "mkdir", ErrExist, Attr{Type: TypeDir, Ctime: before}, false, ErrExist},
		{"symlink", ProcSymlink, args("dir", "n", SetAttr{}, "there"), "symlink", ErrExist, Attr{Type: TypeLink, Ctime: after}, false, OK},
		{"symlink, other text", ProcSymlink, args("dir", "n", SetAttr{}, "elsewhere"), "symlink", ErrExist, Attr{Type: TypeLink, Ctime: after}, false, ErrExist},
		{"mknod", ProcMknod, args("dir", "n", 4, SetAttr{}, 1, 3), "mknod", ErrExist, Attr{Type: TypeChar, Major: 1, Minor: 3, Ctime: after}, false, OK},
		{"mknod, other device", ProcMknod, args("dir", "n", 4, SetAttr{}, 1, 5), "mknod", ErrExist, Attr{Type: TypeChar, Major: 1, Minor: 3, Ctime: after}, false, ErrExist},
		{"link", ProcLink, args("fh", "dir", "n"), "link", ErrExist, Attr{FileID: 9, Ctime: after}, false, OK},
		{"link, older", ProcLink, args("fh", "dir", "n"), "link", ErrExist, Attr{FileID: 9, Ctime: before}, false, ErrExist},
		{"remove", ProcRemove, args("dir", "n"), "remove", ErrNoEnt, Attr{Mtime: after}, true, OK},
		{"remove, never there", ProcRemove, args("dir", "n"), "remove", ErrNoEnt, Attr{Mtime: before}, true, ErrNoEnt},
		{"remove, time set to 1969", ProcRemove, args("dir", "n"), "remove", ErrNoEnt, Attr{Mtime: Time{1<<32 - 1, 0}}, true, ErrNoEnt},
		{"remove, time set ahead", ProcRemove, args("dir", "n"), "remove", ErrNoEnt, Attr{Mtime: future}, true, ErrNoEnt},
		{"remove, another failure", ProcRemove, args("dir", "n"), "remove", ErrAcces, Attr{Mtime: after}, true, ErrAcces},
		{"rmdir", ProcRmdir, args("dir", "n"), "rmdir", ErrNoEnt, Attr{Mtime: after}, true, OK},
		{"rename", ProcRename, args("a", "x", "b", "y"), "rename", ErrNoEnt, Attr{Mtime: after}, false, OK},
		{"rename, older", ProcRename, args("a", "x", "b", "y"), "rename", ErrNoEnt, Attr{Mtime: before}, false, ErrNoEnt},
		{"rename, nothing there", ProcRename, args("a", "x", "b", "y"), "rename", ErrNoEnt, Attr{Mtime: after}, true, ErrNoEnt},
		{"setattr", ProcSetAttr, args("fh", set, true, 1, 2), "setattr", ErrNotSync, Attr{Mode: 0o600, Ctime: after}, false, OK},
		{"setattr, other mode", ProcSetAttr, args("fh", set, true, 1, 2), "setattr", ErrNotSync, Attr{Mode: 0o644, Ctime: after}, false, ErrNotSync},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := sample()
			fs.by = map[string]Status{tc.fails: tc.st}
			if tc.gone {
				fs.by["lookup"] = ErrNoEnt
			}
			fs.post.Attr, fs.wcc.After.Attr = tc.is, tc.is
			c := rpcCall(tc.proc, tc.args)
			c.Begun = begun.UnixNano()
			if got, _ := runCall(t, fs, c); got[0] != uint32(tc.want) {
				t.Errorf("may have been done: status %d, want %d (calls %q)", got[0], tc.want, fs.calls)
			}
			last := fs.calls[len(fs.calls)-1]
			if onDisk := strings.HasPrefix(last, "settle ") || tc.proc != ProcSetAttr && strings.HasPrefix(last, "setattr "); onDisk != (tc.want == OK) {
				t.Errorf("brought to disk: %v, after %q", onDisk, fs.calls)
			}
			fs.calls = []string{}
			if got, _ := run(t, fs, tc.proc, tc.args); got[0] != uint32(tc.st) {
				t.Errorf("for the first time: status %d, want %d", got[0], tc.st)
			}
			if len(fs.calls) != 1 {
				t.Errorf("for the first time: calls %q", fs.calls)
			}
		})
	}
}

// TestAgainFails: what was done before is not acknowledged unless it is on disk.
func TestAgainFails(t *testing.T) {
	for _, tc := range []struct {
		proc uint32
		args []byte
		by   map[string]Status
	}{
		{ProcRemove, args("dir", "n"), map[string]Status{"remove": ErrNoEnt, "settle": ErrIO}},
		{ProcRename, args("a", "x", "b", "y"), map[string]Status{"rename": ErrNoEnt, "settle": ErrIO}},
		{ProcLink, args("fh", "dir", "n"), map[string]Status{"link": ErrExist, "settle": ErrIO}},
		{ProcMkdir, args("dir", "n", SetAttr{}), map[string]Status{"mkdir": ErrExist, "setattr": ErrIO}},
	} {
		fs := sample()
		fs.by = tc.by
		fs.post.Attr = Attr{Type: TypeDir, Mtime: Time{100, 0}, Ctime: Time{100, 0}}
		c := rpcCall(tc.proc, tc.args)
		c.Begun = 100e9
		if got, _ := runCall(t, fs, c); got[0] != uint32(ErrIO) {
			t.Errorf("procedure %d: status %d, want IO (calls %q)", tc.proc, got[0], fs.calls)
		}
	}
}

// TestAgainAttrs: what a try before made gets the attributes it was asked for.
func TestAgainAttrs(t *testing.T) {
	fs := sample()
	fs.by = map[string]Status{"mkdir": ErrExist}
	fs.post.Attr = Attr{Type: TypeDir, Mode: 0o755, Ctime: Time{100, 0}}
	c := rpcCall(ProcMkdir, args("dir", "n", SetAttr{SetMode: true, Mode: 0o777, SetUID: true, UID: 3}))
	c.Begun = 100e9
	runCall(t, fs, c)
	last := fs.calls[len(fs.calls)-1]
	if !strings.Contains(last, "SetMode:true") || !strings.Contains(last, "Mode:511") || strings.Contains(last, "SetUID:true") {
		t.Errorf("the last call is %s", last)
	}
}

// TestAgainHandle: the answer to a call done before carries what it made.
func TestAgainHandle(t *testing.T) {
	fs := sample()
	fs.by = map[string]Status{"mkdir": ErrExist}
	fs.post.Attr = Attr{Type: TypeDir, Ctime: Time{100, 0}}
	c := rpcCall(ProcMkdir, args("dir", "n", SetAttr{}))
	c.Begun = 100e9
	got, _ := runCall(t, fs, c)
	if want := append([]uint32{0, 1}, text("new!")...); len(got) < 5 || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("got %x, want it to begin with %x", got, want)
	}
}
