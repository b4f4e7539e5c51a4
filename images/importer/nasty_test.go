package importer_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: it makes device nodes and changes owners")
	}
}

// nasty says which cruelties a tree gets that not every format can carry.
type nasty struct {
	xattrs, longNames, oldTimes, sparse bool
	// linkedFifos: GNU tar stores each name of a fifo as one of its own.
	linkedFifos bool
}

// at sets the time of a name in the directory fd.
func at(t testing.TB, fd int, name string, sec, nsec int64) {
	t.Helper()
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	must(t, unix.UtimesNanoAt(fd, name, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// makeNasty fills dir with every type of file and all that has gone wrong in
// importers. Without xattrs in the format, times have no nanoseconds either.
func makeNasty(t testing.TB, dir string, n nasty) {
	t.Helper()
	needRoot(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	p := func(s string) string { return filepath.Join(dir, s) }
	write := func(name string, data []byte, mode fs.FileMode) {
		must(t, os.MkdirAll(filepath.Dir(p(name)), 0o755))
		must(t, os.WriteFile(p(name), data, 0o600))
		must(t, os.Chmod(p(name), mode))
	}
	for _, d := range []string{"boot/firmware", "etc", "usr/bin", "a/deep/dir", "empty", "private"} {
		must(t, os.MkdirAll(p(d), 0o755))
	}
	write("boot/firmware/config.txt", []byte("arm_64bit=1\n"), 0o755)
	write("usr/bin/sudo", []byte("#!setuid"), 0o755|fs.ModeSetuid)
	write("usr/bin/wall", []byte("#!setgid"), 0o755|fs.ModeSetgid)
	must(t, os.Lchown(p("usr/bin/wall"), 0, 5))
	must(t, os.Chmod(p("usr/bin/wall"), 0o755|fs.ModeSetgid)) // chown cleared it
	must(t, os.Mkdir(p("tmp"), 0o777))
	must(t, os.Chmod(p("tmp"), 0o777|fs.ModeSticky))
	must(t, os.Chmod(p("private"), 0))
	write("etc/shadow", []byte("root:*:"), 0o640)
	must(t, os.Lchown(p("etc/shadow"), 4000000, 3999999))
	write("unreadable", []byte("x"), 0)
	write("zero length", nil, 0o644)
	write("block", slices.Repeat([]byte("0123456789abcdef"), 1<<16), 0o644)
	write("block and one", append(slices.Repeat([]byte{7}, 1<<20), 8), 0o644)
	write("zeros written", append(make([]byte, 3<<20), 'x'), 0o644)
	// One inode under names in several directories, one name of a symbolic link.
	write("a/one", []byte("hard linked"), 0o644)
	must(t, os.Link(p("a/one"), p("zz")))
	must(t, os.Link(p("a/one"), p("a/deep/dir/two")))
	must(t, os.Symlink("/usr/bin", p("bin")))
	must(t, os.Symlink("../../../../etc/passwd", p("a/climbs")))
	must(t, os.Symlink("nowhere\nat all", p("a/dangles")))
	must(t, os.Symlink(strings.Repeat("t", 99), p("a/long target")))
	must(t, os.Link(p("a/dangles"), p("a/same symlink")))
	must(t, os.Lchown(p("a/dangles"), 7, 8))
	must(t, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(p("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000&0xfffff))))
	must(t, os.Lchown(p("disk"), 0, 6))
	must(t, unix.Mkfifo(p("fifo"), 0o622))
	if n.linkedFifos {
		must(t, os.Link(p("fifo"), p("fifo again")))
	}
	for _, name := range []string{"new\nline", "tab\tand\x01", "\xff\xfe\x80 no utf8", "back\\slash", "-rf", "…ünï", " ", "*", "a=b%"} {
		write(name, []byte(name), 0o644)
	}
	if n.longNames {
		write(strings.Repeat("n", 255), nil, 0o644)
		makeDeep(t, dir, strings.Repeat("d", 200), 20)
		makeDeep(t, dir, "e", 1500)
	}
	if n.sparse {
		f, err := os.Create(p("sparse"))
		must(t, err)
		must(t, f.Truncate(5<<30))
		for _, off := range []int64{0, 4<<30 + 12345, 5<<30 - 1} {
			_, err = f.WriteAt([]byte("data"), min(off, 5<<30-4))
			must(t, err)
		}
		must(t, f.Close())
		must(t, os.WriteFile(p("only hole"), nil, 0o600))
		must(t, os.Truncate(p("only hole"), 1<<32+1))
	}
	if n.xattrs {
		setNastyXattrs(t, dir)
	}
	setTimes(t, dir, n)
}

func makeDeep(t testing.TB, dir, name string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o750))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o604)
	must(t, err)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
}

func setNastyXattrs(t testing.TB, dir string) {
	t.Helper()
	set := func(name, attr, value string) {
		must(t, unix.Lsetxattr(filepath.Join(dir, name), attr, []byte(value), 0))
	}
	// cap_net_raw=ep, struct vfs_cap_data revision 2: what ping has.
	set("usr/bin/sudo", "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	set("etc/shadow", "user.binary", "\x00\xff\n=")
	set("etc/shadow", "user.empty", "")
	set("a", "user.on a dir", "yes")
	set("", "user.on.root", "yes")
	set("a/climbs", "trusted.on.symlink", "yes")
	set("null", "trusted.on.device", "yes")
	set("block", "user.big", strings.Repeat("v", 2000))
	// u::rw- u:1000:r-- g::r-- m::r-- o::---
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	set("unreadable", "system.posix_acl_access", acl)
	set("private", "system.posix_acl_default", acl)
}

// setTimes gives every name its own time, bottom up: children first.
func setTimes(t testing.TB, dir string, n nasty) {
	t.Helper()
	count := int64(0)
	var walk func(fd int)
	walk = func(fd int) {
		for _, name := range namesIn(t, fd) {
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			if err == nil {
				walk(sub)
				unix.Close(sub)
			}
			count++
			nsec := int64(0)
			if n.xattrs {
				nsec = 123456789 + count
			}
			sec := 1600000000 + count*1000
			if n.oldTimes && count%7 == 0 {
				sec = -count
			}
			at(t, fd, name, sec, nsec)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	walk(fd)
	at(t, fd, ".", 1234567890, 0)
}

func namesIn(t testing.TB, fd int) []string {
	t.Helper()
	d, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	must(t, err)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	must(t, err)
	slices.Sort(names)
	return names
}

// describe is the walker to compare with: it shares no code with the importer
// and describes each name in a line.
func describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	links := make(map[uint64][]string)
	var walk func(fd int, rel string)
	one := func(fd int, name, rel string) {
		path := fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)
		var st syscall.Stat_t
		must(t, syscall.Lstat(path, &st))
		line := fmt.Sprintf("mode %o owner %d:%d time %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			line += " content " + content(t, path, st.Size)
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			must(t, err)
			line += fmt.Sprintf(" target %q", target)
		case syscall.S_IFCHR, syscall.S_IFBLK:
			line += fmt.Sprintf(" device %x", st.Rdev)
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR && st.Nlink > 1 {
			links[st.Ino] = append(links[st.Ino], rel)
		}
		out[rel] = line + xattrsOf(t, path)
	}
	walk = func(fd int, rel string) {
		for _, name := range namesIn(t, fd) {
			one(fd, name, rel+"/"+name)
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			if err == nil {
				walk(sub, rel+"/"+name)
				unix.Close(sub)
			}
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	one(fd, ".", "")
	walk(fd, "")
	for _, names := range links {
		slices.Sort(names)
		for _, n := range names {
			out[n] += fmt.Sprintf(" linked %q", names)
		}
	}
	return out
}

func xattrsOf(t testing.TB, path string) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := syscall.Listxattr(path, buf)
	if isLink, _ := os.Lstat(path); isLink != nil && isLink.Mode()&fs.ModeSymlink != 0 {
		n, err = unix.Llistxattr(path, buf)
	}
	if err == syscall.ENOTSUP {
		return ""
	}
	must(t, err)
	names := strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	out := ""
	for _, name := range names {
		if name == "" {
			continue
		}
		v := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, v)
		must(t, err)
		out += fmt.Sprintf(" %s=%q", name, v[:n])
	}
	return out
}

// content hashes the size and every 4 KiB that isn't zero with its place.
func content(t testing.TB, path string, size int64) string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	buf, zero := make([]byte, 4096), make([]byte, 4096)
	for off := int64(0); off < size; off += 4096 {
		next, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			break
		}
		off = next - next%4096
		n, err := f.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if string(buf[:n]) != string(zero[:n]) {
			fmt.Fprintf(h, "%d %x\n", off, buf[:n])
		}
	}
	return fmt.Sprintf("%d %x", size, h.Sum(nil)[:8])
}

// sameTree compares two descriptions.
func sameTree(t testing.TB, want, got map[string]string) {
	t.Helper()
	bad := 0
	for p, w := range want {
		if g := got[p]; g != w && bad < 10 {
			bad++
			t.Errorf("%.80q\n got  %.400s\n want %.400s", p, g, w)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok && bad < 20 {
			bad++
			t.Errorf("%.80q should not be there", p)
		}
	}
}

// diskUsage is what a tree takes, in bytes.
func diskUsage(t testing.TB, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Lstat(path, &st))
	return st.Blocks * 512
}
