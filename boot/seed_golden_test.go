package boot_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/identity"
	"rubus/images/importer"
	"rubus/nfsexport"
)

// A file that devices.yaml names no more is the image's again, with all that the image has
// of it, however large.
func TestIdentityGivesBackTheImagesFile(t *testing.T) {
	const name = "usr/bin/tool"
	l := newLab(t)
	dir := l.TempDir()
	text := bytes.Repeat([]byte("golden text\n"), 300_000)
	// cap_net_raw+ep, see vfs_cap_data of linux/capability.h.
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	made := time.Date(2024, 2, 3, 4, 5, 6, 7, time.UTC)
	for file, data := range map[string][]byte{
		"sbin/init": []byte("#!init"), "boot/firmware/config.txt": []byte("arm_64bit=1\n"), "boot/firmware/bootcode.bin": []byte("boot"),
		"boot/firmware/kernel8.img": []byte("kernel"), "boot/firmware/start.elf": []byte("elf"), name: text,
	} {
		p := filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, data, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	tool := filepath.Join(dir, name)
	if err := errors.Join(
		os.Chown(tool, 5, 6), unix.Chmod(tool, 0o6751), unix.Setxattr(tool, "security.capability", capability, 0), os.Chtimes(tool, made, made),
	); err != nil {
		t.Fatal(err)
	}
	if _, _, err := importer.Import(l.Context(), l.store, "lab", dir, importer.Options{}); err != nil {
		t.Fatal(err)
	}
	stat := func(x nfsexport.Export) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Lstat(filepath.Join(x.Dir, name), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	l.wishes(identity.File{Path: "/" + name, Content: "ours", Mode: 0o644})
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	if l.content(x, name) != "ours" || stat(x).Mode&0o7777 != 0o644 {
		t.Fatalf("the board was given %q", l.content(x, name))
	}
	l.wishes()
	x = l.boots(serialA, macA, addrA)
	if l.content(x, name) != string(text) {
		t.Error("the file of the image has another content")
	}
	if st := stat(x); st.Mode&0o7777 != 0o6751 || st.Uid != 5 || st.Gid != 6 || !time.Unix(st.Mtim.Unix()).Equal(made) {
		t.Errorf("the file of the image has mode %o, owner %d:%d, time %v", st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()))
	}
	got := make([]byte, 64)
	n, err := unix.Lgetxattr(filepath.Join(x.Dir, name), "security.capability", got)
	if err != nil || !bytes.Equal(got[:n], capability) {
		t.Errorf("the capability is %x: %v", got[:max(0, n)], err)
	}
	if st, _ := l.fleet.Board(serialA); st.Problem != "" {
		t.Errorf("problem %q", st.Problem)
	}
}
