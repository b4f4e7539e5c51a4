package ext4_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/ext4"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// tree makes a directory with one of everything; whole seconds, as mkfs keeps no more.
func tree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	p := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"etc", "usr/bin", "dev", "big", "empty"} {
		must(t, os.MkdirAll(p(d), 0o755))
	}
	must(t, os.WriteFile(p("etc/hostname"), []byte("raspberrypi\n"), 0o644))
	must(t, os.WriteFile(p("etc/shadow"), nil, 0o640))
	must(t, os.Chown(p("etc/shadow"), 70000, 42))
	must(t, os.WriteFile(p("usr/bin/sudo"), bytes.Repeat([]byte("0123456789abcdef"), 20000), 0o755))
	must(t, unix.Chmod(p("usr/bin/sudo"), 0o4755))
	must(t, os.Link(p("usr/bin/sudo"), p("usr/bin/sudoedit")))
	must(t, os.Symlink("usr/bin", p("bin")))
	must(t, os.Symlink(strings.Repeat("a/", 59), p("slow")))
	must(t, os.Symlink(strings.Repeat("x", 59), p("fast")))
	must(t, os.Symlink(strings.Repeat("x", 60), p("slow60")))
	must(t, unix.Mknod(p("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(p("dev/big"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	must(t, unix.Mkfifo(p("dev/fifo"), 0o600))
	for i := range 1500 {
		must(t, os.WriteFile(p("big/a-name-of-some-length-"+strconv.Itoa(i)), []byte{byte(i)}, 0o600))
	}
	// A head, a tail, and many pieces between holes: an extent tree with several nodes.
	f, err := os.Create(p("sparse"))
	must(t, err)
	for i := range int64(900) {
		_, err := f.WriteAt([]byte(fmt.Sprint("piece ", i)), i*8<<10)
		must(t, err)
	}
	must(t, f.Truncate(1<<24))
	must(t, f.Close())
	must(t, unix.Setxattr(p("usr/bin/sudo"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(t, unix.Setxattr(p("etc"), "user.note", []byte("hello"), 0))
	must(t, unix.Setxattr(p("etc"), "trusted.t", bytes.Repeat([]byte("v"), 800), 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	must(t, unix.Setxattr(p("etc"), "system.posix_acl_access", acl, 0))
	return dir
}

func mkfs(t testing.TB, dir, size string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mkfs.ext4", append(append([]string{"-q", "-F", "-L", "rootfs", "-d", dir}, args...), image, size)...)
	return image
}

func open(t testing.TB, image string) *ext4.FS {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	must(t, err)
	fs, err := ext4.Open(f, st.Size())
	must(t, err)
	return fs
}

// walk visits all names below an inode.
func walk(fs *ext4.FS, i *ext4.Inode, p string, visit func(p string, i *ext4.Inode) error) error {
	names, err := fs.ReadDir(i)
	if err != nil {
		return err
	}
	for _, d := range names {
		sub, err := fs.Inode(d.Inode)
		if err != nil {
			return err
		}
		full := path.Join(p, d.Name)
		if err := visit(full, sub); err != nil {
			return err
		}
		if sub.Type() == unix.S_IFDIR {
			if err := walk(fs, sub, full, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare reads everything and compares it with what stat and read say of dir.
func compare(t *testing.T, fs *ext4.FS, dir string) {
	t.Helper()
	top, err := fs.Inode(ext4.Root)
	must(t, err)
	seen := 0
	must(t, walk(fs, top, "", func(p string, i *ext4.Inode) error {
		if p == "lost+found" {
			return nil
		}
		seen++
		full := filepath.Join(dir, p)
		var st unix.Stat_t
		must(t, unix.Lstat(full, &st))
		type attrs struct{ mode, uid, gid, major, minor uint32 }
		got, want := attrs{i.Mode, i.UID, i.GID, i.Major, i.Minor}, attrs{st.Mode, st.Uid, st.Gid, unix.Major(st.Rdev), unix.Minor(st.Rdev)}
		if got != want || i.Sec != st.Mtim.Sec {
			t.Errorf("%s: %+v %d, want %+v %d", p, got, i.Sec, want, st.Mtim.Sec)
		}
		switch i.Type() {
		case unix.S_IFLNK:
			target, err := fs.Readlink(i)
			must(t, err)
			if want, _ := os.Readlink(full); target != want {
				t.Errorf("%s points to %q, want %q", p, target, want)
			}
		case unix.S_IFREG:
			want, err := os.ReadFile(full)
			must(t, err)
			c, err := fs.Content(i)
			must(t, err)
			got := make([]byte, c.Size())
			for off := c.NextData(0); off < c.Size(); {
				n := min(10007, c.Size()-off)
				if _, err := c.ReadAt(got[off:off+n], off); err != nil && err != io.EOF {
					t.Fatal(err)
				}
				off = c.NextData(off + n)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: other content", p)
			}
		}
		xattrs, err := fs.Xattrs(i)
		must(t, err)
		if i.Type() == unix.S_IFDIR || i.Type() == unix.S_IFREG {
			if want := fileXattrs(t, full); fmt.Sprintf("%q", xattrs) != fmt.Sprintf("%q", want) {
				t.Errorf("%s: attributes %q, want %q", p, xattrs, want)
			}
		}
		return nil
	}))
	want := 0
	must(t, filepath.WalkDir(dir, func(string, os.DirEntry, error) error { want++; return nil }))
	if seen != want-1 {
		t.Errorf("%d names, want %d", seen, want-1)
	}
}

func fileXattrs(t *testing.T, p string) map[string]string {
	t.Helper()
	b := make([]byte, 4096)
	n, err := unix.Llistxattr(p, b)
	must(t, err)
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, v)
		must(t, err)
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = string(v[:n])
	}
	return out
}

// What mkfs wrote is what is read, with every feature that a root may have.
func TestReadsWhatMkfsWrote(t *testing.T) {
	dir := tree(t)
	for name, args := range map[string][]string{
		"pios":          {"-O", "^huge_file,^64bit"},
		"trixie":        {"-O", "^huge_file,metadata_csum,metadata_csum_seed,orphan_file"},
		"ubuntu":        {"-O", "64bit,metadata_csum"},
		"no checksums":  {"-O", "^metadata_csum,^64bit"},
		"ext3":          {"-O", "^extent,^64bit,^flex_bg,^metadata_csum"},
		"ext2":          {"-O", "none,ext_attr", "-I", "128"},
		"small blocks":  {"-b", "1024"},
		"large blocks":  {"-b", "65536"},
		"inline data":   {"-O", "inline_data", "-I", "1024"},
		"meta_bg":       {"-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"},
		"sparse_super2": {"-O", "sparse_super2"},
		"bigalloc":      {"-O", "bigalloc"},
	} {
		t.Run(name, func(t *testing.T) {
			d, size := dir, "64M"
			switch name {
			case "inline data": // this mkfs loses the hole at the end then
				d = tree(t)
				must(t, os.Remove(filepath.Join(d, "sparse")))
			case "large blocks": // one for each small file
				size = "512M"
			}
			fs := open(t, mkfs(t, d, size, args...))
			if fs.Label() != "rootfs" || fs.Used() <= 0 || len(fs.UUID()) != 36 {
				t.Errorf("label %q, %d used, UUID %q", fs.Label(), fs.Used(), fs.UUID())
			}
			compare(t, fs, d)
		})
	}
}

// Directories with an index, as the kernel makes them, are read as lists.
func TestIndexedDirectory(t *testing.T) {
	dir := tree(t)
	image := mkfs(t, dir, "64M", "-b", "1024")
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fyD", image).CombinedOutput()
	if ex := new(exec.ExitError); err != nil && (!errors.As(err, &ex) || ex.ExitCode() > 1) {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	if !strings.Contains(run(t, "debugfs", "-R", "htree_dump /big", image), "Root node dump") {
		t.Fatal("e2fsck made no index")
	}
	compare(t, open(t, image), dir)
}

func TestNanosecondsAndLateYears(t *testing.T) {
	image := mkfs(t, tree(t), "64M")
	for _, set := range []string{"mtime 0x0", "mtime_extra 0x75bcd159"} { // 2^32 seconds, 493827158 nanoseconds
		run(t, "debugfs", "-w", "-R", "set_inode_field /etc/hostname "+set, image)
	}
	fs := open(t, image)
	i := find(t, fs, "etc/hostname")
	if i.Sec != 1<<32 || i.Nsec != 0x75bcd159>>2 {
		t.Errorf("%d.%09d", i.Sec, i.Nsec)
	}
}

func find(t *testing.T, fs *ext4.FS, want string) *ext4.Inode {
	t.Helper()
	top, err := fs.Inode(ext4.Root)
	must(t, err)
	var found *ext4.Inode
	must(t, walk(fs, top, "", func(p string, i *ext4.Inode) error {
		if p == want {
			found = i
		}
		return nil
	}))
	if found == nil {
		t.Fatalf("no %s", want)
	}
	return found
}
