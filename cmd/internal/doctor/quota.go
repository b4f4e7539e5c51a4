package doctor

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Quotas says how the quotas of n boards are kept, and how it could be done better:
// kernel says that the file system of the state directory has project quotas, ours that
// the NFS server is rubus.
func Quotas(state string, n int, kernel, ours bool) Finding {
	boards := fmt.Sprintf("%d boards", n)
	if n == 1 {
		boards = "1 board"
	}
	f := Finding{Check: "quotas", Level: OK, What: "no board has a quota"}
	switch {
	case kernel && n > 0:
		f.What = fmt.Sprintf("the kernel keeps the quotas of %s: %s has project quotas", boards, state)
	case kernel:
		f.What += fmt.Sprintf("; the kernel would keep it: %s has project quotas", state)
	case n > 0 && !ours:
		f.Level, f.What = Warning, fmt.Sprintf("nobody keeps the quotas of %s: %s has no project quotas, and the kernel's NFS server (nfs.backend) counts nothing", boards, state)
		f.Why = "one board can fill the disk of all"
		f.Do = toProjects(state) + "; or leave nfs.backend out of rubus.yaml"
	case n > 0:
		f.Level, f.What = Note, fmt.Sprintf("rubus itself keeps the quotas of %s: %s has no project quotas", boards, state)
		f.Why = "it counts what boards have after each start, and until then a board may write its quota once more"
		f.Do = "nothing, or " + toProjects(state)
	}
	return f
}

// toProjects says how a file system comes to project quotas.
func toProjects(dir string) string {
	var st unix.Statfs_t
	for unix.Statfs(dir, &st) != nil && dir != "/" {
		dir = filepath.Dir(dir) // "serve" makes what is missing
	}
	note := "; boards have it from their next new root on"
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "unmount it, run \"tune2fs -O project,quota DEVICE\" and mount it with the option prjquota" + note
	case unix.XFS_SUPER_MAGIC:
		return "mount it with the option prjquota (a root file system: rootflags=prjquota)" + note
	}
	return "put the state directory on ext4 or xfs with project quotas"
}
