package nfs3

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"rubus/nfsexport/sunrpc"
)

func words(w ...uint32) []uint32 { return w }

// text is a string as words of XDR.
func text(s string) []uint32 { return toWords(args(s)) }

// someSet sets every attribute, and is printed as someSetText by the fake.
var someSet = SetAttr{
	SetMode: true, SetUID: true, SetGID: true, SetSize: true, Mode: 0o4755, UID: 1, GID: 2, Size: 3,
	SetAtime: SetToServer, SetMtime: SetToClient, Mtime: Time{4, 5},
}

// goldens are all procedures with a good call: the call the FS gets, the
// results of success, and those of failure after the status word. They are
// written down from RFC 1813, not from the code.
var goldens = []struct {
	proc uint32
	name string
	args []byte
	call string
	ok   []uint32
	fail []uint32
}{
	{ProcGetAttr, "getattr", args("fh"), `getattr fh`, attrWords, nil},
	{
		ProcSetAttr, "setattr", args("fh", someSet, true, 6, 7),
		`setattr fh ` + setWords(&someSet) + ` guard {6 7}`, wccWords, wccWords,
	},
	{
		ProcLookup, "lookup", args("dir", "name"), `lookup dir "name"`,
		slices.Concat(text("new!"), postWords, postWords), postWords,
	},
	{ProcAccess, "access", args("fh", 0x3f), `access fh 3f`, slices.Concat(postWords, words(0x3f)), postWords},
	{ProcReadLink, "readlink", args("fh"), `readlink fh`, slices.Concat(postWords, text("there")), postWords},
	{
		ProcRead, "read", args("fh", uint64(1)<<40, 8), `read fh 1099511627776 8`,
		slices.Concat(postWords, words(5, 1), text("datum")), postWords,
	},
	{
		ProcWrite, "write", args("fh", uint64(9), 5, 1, "bytes"), `write fh 9 5 bytes 1`,
		slices.Concat(wccWords, words(5, 2, 0x11111111, 0x22222222)), wccWords,
	},
	{
		ProcCreate, "create", args("dir", "name", 0, someSet), `create dir "name" 0 ` + setWords(&someSet) + ` 0`,
		slices.Concat(words(1), text("new!"), postWords, wccWords), wccWords,
	},
	{
		ProcMkdir, "mkdir", args("dir", "name", SetAttr{}), `mkdir dir "name" ` + setWords(&SetAttr{}),
		slices.Concat(words(1), text("new!"), postWords, wccWords), wccWords,
	},
	{
		ProcSymlink, "symlink", args("dir", "name", SetAttr{}, "../there"), `symlink dir "name" "../there"`,
		slices.Concat(words(1), text("new!"), postWords, wccWords), wccWords,
	},
	{
		ProcMknod, "mknod", args("dir", "name", 4, SetAttr{}, 5, 6), `mknod dir "name" 4 5:6`,
		slices.Concat(words(1), text("new!"), postWords, wccWords), wccWords,
	},
	{ProcRemove, "remove", args("dir", "name"), `remove dir "name"`, wccWords, wccWords},
	{ProcRmdir, "rmdir", args("dir", "name"), `rmdir dir "name"`, wccWords, wccWords},
	{
		ProcRename, "rename", args("a", "x", "b", "y"), `rename a "x" b "y"`,
		slices.Concat(wccWords, wccWords), slices.Concat(wccWords, wccWords),
	},
	{ProcLink, "link", args("fh", "dir", "name"), `link fh dir "name"`, slices.Concat(postWords, wccWords), slices.Concat(postWords, wccWords)},
	{
		ProcReadDir, "readdir", args("dir", uint64(3), uint64(4), 4096), `readdir dir 3 4 false`,
		slices.Concat(postWords, words(0x11111111, 0x22222222, 0, 1)), postWords,
	},
	{
		ProcReadDirPlus, "readdir", args("dir", uint64(3), uint64(4), 1024, 4096), `readdir dir 3 4 true`,
		slices.Concat(postWords, words(0x11111111, 0x22222222, 0, 1)), postWords,
	},
	{
		ProcFSStat, "fsstat", args("fh"), `fsstat fh`,
		slices.Concat(postWords, words(0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0)), postWords,
	},
	{
		ProcFSInfo, "fsinfo", args("fh"), `fsinfo fh`,
		slices.Concat(postWords, words(1<<20, 1<<20, 4096, 1<<20, 1<<20, 4096, 65536, 0x7fffffff, 0xffffffff, 0, 1, 0x1b)), postWords,
	},
	{
		ProcPathConf, "pathconf", args("fh"), `pathconf fh`,
		slices.Concat(postWords, words(65000, 255, 1, 0, 0, 1)), postWords,
	},
	{
		ProcCommit, "commit", args("fh", uint64(4096), 100), `commit fh 4096 100`,
		slices.Concat(wccWords, words(0x11111111, 0x22222223)), wccWords,
	},
}

func TestEveryProcedure(t *testing.T) {
	seen := map[uint32]bool{ProcNull: true}
	for _, tc := range goldens {
		seen[tc.proc] = true
		t.Run(tc.name+"/ok", func(t *testing.T) {
			fs := sample()
			got, st := run(t, fs, tc.proc, tc.args)
			if st != sunrpc.Success || len(got) == 0 || got[0] != 0 || !slices.Equal(got[1:], tc.ok) {
				t.Errorf("%v, got\n%x\nwant\n%x", st, got, tc.ok)
			}
			if len(fs.calls) != 1 || fs.calls[0] != tc.call {
				t.Errorf("calls %q, want %q", fs.calls, tc.call)
			}
		})
		for _, fail := range []Status{ErrJukebox, ErrStale, ErrServerFault} {
			t.Run(tc.name+"/fails", func(t *testing.T) {
				fs := sample()
				fs.status = fail
				c := rpcCall(tc.proc, tc.args)
				got, st := runCall(t, fs, c)
				if st != sunrpc.Success || !slices.Equal(got, append(words(uint32(fail)), tc.fail...)) {
					t.Errorf("%v, got\n%x\nwant %d and\n%x", st, got, fail, tc.fail)
				}
				if c.Result != uint32(fail) || c.Forget != (fail == ErrJukebox) {
					t.Errorf("result %d, forget %v", c.Result, c.Forget)
				}
			})
		}
		t.Run(tc.name+"/fails without attributes", func(t *testing.T) {
			got, _ := run(t, &fakeFS{status: ErrStale}, tc.proc, tc.args)
			// Each post_op_attr is one word, each wcc_data two.
			n := map[bool]int{true: 2, false: 0}[tc.proc == ProcSetAttr]
			switch tc.proc {
			case ProcGetAttr, ProcSetAttr:
			case ProcRename:
				n = 4
			case ProcLink:
				n = 3
			case ProcWrite, ProcCreate, ProcMkdir, ProcSymlink, ProcMknod, ProcRemove, ProcRmdir, ProcCommit:
				n = 2
			default:
				n = 1
			}
			if !slices.Equal(got, append(words(uint32(ErrStale)), make([]uint32, n)...)) {
				t.Errorf("got %x, want the status and %d words", got, n)
			}
		})
		t.Run(tc.name+"/cut off", func(t *testing.T) {
			for n := range len(tc.args) {
				fs := sample()
				if got, st := run(t, fs, tc.proc, tc.args[:n]); st != sunrpc.GarbageArgs || len(fs.calls) != 0 {
					t.Errorf("first %d bytes: %v, %x, calls %q", n, st, got, fs.calls)
				}
			}
		})
		t.Run(tc.name+"/handle", func(t *testing.T) {
			long := append(args(make([]byte, MaxHandle+1)), tc.args...)
			if _, st := run(t, sample(), tc.proc, long); st != sunrpc.GarbageArgs {
				t.Errorf("handle of 65 bytes: %v", st)
			}
			fs := sample()
			first := len(args(make([]byte, int(tc.args[3]))))
			got, st := run(t, fs, tc.proc, append(args(""), tc.args[first:]...))
			if st != sunrpc.Success || got[0] != uint32(ErrBadHandle) || len(fs.calls) != 0 {
				t.Errorf("empty handle: %v, %x, calls %q", st, got, fs.calls)
			}
		})
		t.Run(tc.name+"/AUTH_NONE", func(t *testing.T) {
			c := rpcCall(tc.proc, tc.args)
			c.Flavor = sunrpc.AuthNone
			if _, st := runCall(t, sample(), c); st != sunrpc.AuthTooWeak {
				t.Errorf("%v", st)
			}
		})
	}
	if len(seen) != Procs {
		t.Errorf("%d procedures have a golden, want %d", len(seen), Procs)
	}
	if got, st := run(t, sample(), ProcNull, nil); st != sunrpc.Success || len(got) != 0 {
		t.Errorf("NULL: %v, %x", st, got)
	}
	if _, st := run(t, sample(), Procs, nil); st != sunrpc.ProcUnavail {
		t.Errorf("procedure 22: %v", st)
	}
}

func TestNames(t *testing.T) {
	name := func(n string) []byte { return args("dir", n) }
	make := func(n string) []byte { return args("dir", n, SetAttr{}) }
	for _, p := range []struct {
		what  string
		proc  uint32
		args  func(string) []byte
		dot   Status
		plain string
	}{
		{"lookup", ProcLookup, name, OK, "lookup"},
		{"remove", ProcRemove, name, ErrAcces, "remove"},
		{"rmdir", ProcRmdir, name, ErrAcces, "rmdir"},
		{"create", ProcCreate, func(n string) []byte { return args("dir", n, 0, SetAttr{}) }, ErrExist, "create"},
		{"mkdir", ProcMkdir, make, ErrExist, "mkdir"},
		{"symlink", ProcSymlink, func(n string) []byte { return args("dir", n, SetAttr{}, "text") }, ErrExist, "symlink"},
		{"mknod", ProcMknod, func(n string) []byte { return args("dir", n, 7, SetAttr{}) }, ErrExist, "mknod"},
		{"link", ProcLink, func(n string) []byte { return args("fh", "dir", n) }, ErrExist, "link"},
		{"rename from", ProcRename, func(n string) []byte { return args("a", n, "b", "to") }, ErrPerm, "rename"},
		{"rename to", ProcRename, func(n string) []byte { return args("a", "from", "b", n) }, ErrPerm, "rename"},
	} {
		for _, tc := range []struct {
			name string
			want Status
		}{
			{"", ErrAcces},
			{"a/b", ErrAcces},
			{"/", ErrAcces},
			{"a\x00", ErrAcces},
			{".", p.dot},
			{"..", p.dot},
			{strings.Repeat("n", MaxName+1), ErrNameTooLong},
			{strings.Repeat("n", 4000), ErrNameTooLong},
			{strings.Repeat("n", MaxName), OK},
			{"...", OK},
			{"\xff\xfe", OK},
		} {
			fs := sample()
			got, st := run(t, fs, p.proc, p.args(tc.name))
			if st != sunrpc.Success || got[0] != uint32(tc.want) {
				t.Errorf("%s %.20q: %v, status %d, want %d", p.what, tc.name, st, got[0], tc.want)
			}
			if asked := len(fs.calls) > 0; asked != (tc.want == OK) {
				t.Errorf("%s %.20q: calls %q", p.what, tc.name, fs.calls)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	big := bytes.Repeat([]byte{'x'}, MaxIO+4)
	for _, tc := range []struct {
		name string
		proc uint32
		args []byte
		want Status // of NFS
		rpc  sunrpc.Status
		call string
	}{
		{"read of 4 GiB", ProcRead, args("fh", uint64(0), uint32(1<<32-1)), OK, 0, "read fh 0 1048576"},
		{"read at the end", ProcRead, args("fh", uint64(1<<64-1), 9), OK, 0, "read fh 9223372036854775807 0"},
		{"read over the end", ProcRead, args("fh", uint64(1<<63-5), 9), OK, 0, "read fh 9223372036854775803 4"},
		{"write of too much is short", ProcWrite, args("fh", uint64(0), len(big), 0, big), OK, 0, "write fh 0 1048576 bytes 0"},
		{"write count below data", ProcWrite, args("fh", uint64(0), 3, 0, "data"), 0, sunrpc.GarbageArgs, ""},
		{"write count above data", ProcWrite, args("fh", uint64(0), 5, 0, "data"), 0, sunrpc.GarbageArgs, ""},
		{"write at the end", ProcWrite, args("fh", uint64(1<<63-1), 1, 0, "d"), ErrFBig, 0, ""},
		{"write near 2^64", ProcWrite, args("fh", uint64(1<<64-2), 4, 0, "data"), ErrFBig, 0, ""},
		{"write of stable_how 3", ProcWrite, args("fh", uint64(0), 1, 3, "d"), 0, sunrpc.GarbageArgs, ""},
		{"commit near 2^64", ProcCommit, args("fh", uint64(1<<64-1), 4), OK, 0, "commit fh 0 0"},
		{"create of mode 3", ProcCreate, args("dir", "n", 3, SetAttr{}), 0, sunrpc.GarbageArgs, ""},
		{"create exclusive", ProcCreate, args("dir", "n", 2, uint64(0xabc)), OK, 0, `create dir "n" 2 nil abc`},
		{"mknod of a file", ProcMknod, args("dir", "n", 1), ErrBadType, 0, ""},
		{"mknod of type 8", ProcMknod, args("dir", "n", 8), 0, sunrpc.GarbageArgs, ""},
		{"mknod of a fifo", ProcMknod, args("dir", "n", 7, SetAttr{}), OK, 0, `mknod dir "n" 7 0:0`},
		{"symlink without text", ProcSymlink, args("dir", "n", SetAttr{}, ""), ErrNoEnt, 0, ""},
		{"symlink with NUL", ProcSymlink, args("dir", "n", SetAttr{}, "a\x00"), ErrInval, 0, ""},
		{"symlink of 4096", ProcSymlink, args("dir", "n", SetAttr{}, strings.Repeat("x", 4096)), ErrNameTooLong, 0, ""},
		{"setattr of time_how 3", ProcSetAttr, args("fh", 0, 0, 0, 0, 3, 0, 0), 0, sunrpc.GarbageArgs, ""},
		{"setattr of bool 2", ProcSetAttr, args("fh", 2, 0, 0, 0, 0, 0, 0), 0, sunrpc.GarbageArgs, ""},
		{
			"setattr of 1e9 ns", ProcSetAttr,
			args("fh", SetAttr{SetMtime: SetToClient, Mtime: Time{1, 1e9}}, false), ErrInval, 0, "",
		},
		{"setattr of 2^63 bytes", ProcSetAttr, args("fh", SetAttr{SetSize: true, Size: 1 << 63}, false), ErrFBig, 0, ""},
		{
			"mode keeps only its bits", ProcMkdir, args("dir", "n", SetAttr{SetMode: true, Mode: 0o177777}), OK, 0,
			`mkdir dir "n" ` + setWords(&SetAttr{SetMode: true, Mode: 0o7777}),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := sample()
			got, st := run(t, fs, tc.proc, tc.args)
			if st != tc.rpc || st == sunrpc.Success && got[0] != uint32(tc.want) {
				t.Errorf("%v, got %x, want %d", st, got, tc.want)
			}
			if calls := strings.Join(fs.calls, ";"); calls != tc.call {
				t.Errorf("calls %q, want %q", calls, tc.call)
			}
		})
	}
}

// TestReadMovesUp: without attributes, the data lies elsewhere in the reply.
func TestReadMovesUp(t *testing.T) {
	fs := sample()
	fs.post.OK, fs.eof, fs.data = false, false, bytes.Repeat([]byte("0123456789"), 30)
	got, _ := run(t, fs, ProcRead, args("fh", uint64(0), 299))
	want := slices.Concat(words(0, 0, 299, 0), text(string(fs.data[:299])))
	if !slices.Equal(got, want) {
		t.Errorf("got\n%x\nwant\n%x", got, want)
	}
}

func TestPlan(t *testing.T) {
	p := NewProgram(nil)
	for _, tc := range []struct {
		name string
		proc uint32
		args []byte
		want sunrpc.Plan
	}{
		{"getattr", ProcGetAttr, args("fh"), sunrpc.Plan{}},
		{"small read", ProcRead, args("fh", uint64(0), 4096), sunrpc.Plan{Reply: 4096, Shared: 8}},
		{"large read", ProcRead, args("fh", uint64(0), 1<<20), sunrpc.Plan{Long: true, Reply: 1 << 20}},
		{"lying read", ProcRead, args("fh", uint64(0), uint32(1<<32-1)), sunrpc.Plan{Long: true, Reply: 1 << 20}},
		{"broken read", ProcRead, nil, sunrpc.Plan{}},
		{"read cut off", ProcRead, args("fh", 0), sunrpc.Plan{}},
		{"small write", ProcWrite, args("fh", uint64(0), 5, 0, "bytes"), sunrpc.Plan{Changes: true, Shared: 8}},
		{"stable write", ProcWrite, args("fh", uint64(0), 5, 2, "bytes"), sunrpc.Plan{Long: true, Changes: true}},
		{"large write", ProcWrite, args("fh", uint64(0), 20000, 0, make([]byte, 20000)), sunrpc.Plan{Long: true, Changes: true, Data: 20000}},
		{"stable words", ProcWrite, args("fh", uint64(0), 8, 2, "words..."), sunrpc.Plan{Long: true, Changes: true, Data: 8}},
		{"largest write", ProcWrite, args("fh", uint64(0), MaxIO, 0, make([]byte, MaxIO)), sunrpc.Plan{Long: true, Changes: true, Data: MaxIO}},
		{"write beyond", ProcWrite, args("fh", uint64(0), MaxIO+4, 0, make([]byte, MaxIO+4)), sunrpc.Plan{Long: true, Changes: true}},
		{"padded write", ProcWrite, args("fh", uint64(0), 19999, 0, make([]byte, 19999)), sunrpc.Plan{Long: true, Changes: true}},
		{"write of another count", ProcWrite, args("fh", uint64(0), 19996, 0, make([]byte, 20000)), sunrpc.Plan{Long: true, Changes: true}},
		{"write with more behind it", ProcWrite, args("fh", uint64(0), 20000, 0, make([]byte, 20000), 0), sunrpc.Plan{Long: true, Changes: true}},
		{"write cut off", ProcWrite, args("fh", uint64(0), 20000, 0, make([]byte, 20000))[:20020], sunrpc.Plan{Long: true, Changes: true}},
		{"write with a long handle", ProcWrite, args(make([]byte, MaxHandle+4), uint64(0), 20000, 0, make([]byte, 20000)), sunrpc.Plan{Changes: true}},
		{"setattr", ProcSetAttr, args("fh", 0), sunrpc.Plan{Long: true, Once: true, Changes: true}},
		{"remove", ProcRemove, args("dir", "name"), sunrpc.Plan{Long: true, Once: true}},
		{"commit", ProcCommit, args("fh", uint64(0), 0), sunrpc.Plan{Long: true}},
	} {
		c := rpcCall(tc.proc, tc.args)
		if got := p.Plan(c); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
		if c.Args.Len() != len(tc.args) {
			t.Errorf("%s: arguments were read", tc.name)
		}
	}
}
