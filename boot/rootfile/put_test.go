package rootfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/rootfile"
)

func TestPut(t *testing.T) {
	dir, outside := place(t)
	r := open(t, dir)
	must(t, os.Symlink(filepath.Join(outside, "motd"), filepath.Join(dir, "etc/tool")))
	when := time.Date(2024, 2, 3, 4, 5, 6, 7, time.UTC)
	text := strings.Repeat("x", 3<<20)
	must(t, r.Put(rootfile.Copy{
		Path: "/etc/tool", Content: strings.NewReader(text), Mode: 0o6751, UID: 5, GID: 6,
		Xattrs: map[string]string{"security.note": "kept"}, ModTime: when,
	}))
	p := filepath.Join(dir, "etc/tool")
	var st unix.Stat_t
	must(t, unix.Lstat(p, &st))
	if st.Mode != unix.S_IFREG|0o6751 || st.Uid != 5 || st.Gid != 6 || !time.Unix(st.Mtim.Unix()).Equal(when) {
		t.Errorf("mode %o, owner %d:%d, time %v", st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()))
	}
	note := make([]byte, 10)
	n, err := unix.Lgetxattr(p, "security.note", note)
	if got, rerr := os.ReadFile(p); err != nil || rerr != nil || string(note[:n]) != "kept" || string(got) != text {
		t.Errorf("attribute %q, %d bytes: %v %v", note[:max(0, n)], len(got), err, rerr)
	}
	if got, err := os.ReadFile(filepath.Join(outside, "motd")); err != nil || string(got) != "the host's" {
		t.Errorf("outside: %q %v", got, err)
	}

	// What cannot be read to its end leaves what was there, and nothing beside it.
	broken := errors.New("broken")
	if err := r.Put(rootfile.Copy{Path: "/etc/tool", Content: failing{broken}, Mode: 0o644}); !errors.Is(err, broken) {
		t.Errorf("a broken source: %v", err)
	}
	list, err := os.ReadDir(filepath.Join(dir, "etc"))
	if got, rerr := os.ReadFile(p); err != nil || rerr != nil || string(got) != text || len(list) != 1 {
		t.Errorf("%d bytes, beside it %v: %v %v", len(got), list, err, rerr)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
