package treediff

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
)

// Kind is what became of a name.
type Kind string

// The kinds of change.
const (
	Added    Kind = "added"
	Removed  Kind = "removed"
	Changed  Kind = "changed"  // other content, target, device or type
	Metadata Kind = "metadata" // mode, owner, time or extended attributes alone
	Renamed  Kind = "renamed"
)

// Aspects of an object that Change.What names.
const (
	Type    = "type"
	Content = "content"
	Mode    = "mode"
	Owner   = "owner"
	Time    = "time"
	Xattrs  = "xattrs"
)

// Change is one name that differs.
type Change struct {
	// Path is relative to the root; the root's own is "".
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	// From is the name before, of what was renamed.
	From string `json:"from,omitempty"`
	// Type is that of the object now (or, when removed, before): "file",
	// "directory", "symlink", "char", "block", "fifo" or "socket".
	Type string `json:"type"`
	// What lists the aspects that differ.
	What []string `json:"what,omitempty"`
	// Before and After are the sizes of a regular file in bytes.
	Before int64 `json:"before,omitempty"`
	After  int64 `json:"after,omitempty"`
	// Old and New are the nodes in the two trees; nil where there is none.
	Old *layered.Node `json:"-"`
	New *layered.Node `json:"-"`
}

// TypeOf names the type of a node.
func TypeOf(n *layered.Node) string {
	switch n.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFIFO:
		return "fifo"
	}
	return "socket"
}

func size(n *layered.Node) int64 {
	if n == nil || !n.IsRegular() {
		return 0
	}
	return n.Stat.Size
}

// IsBelow says whether a path of a tree is one of dirs, or lies in one of them. People write dirs:
// slashes at their ends are of no matter, and "/" is all of the tree.
func IsBelow(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		dir = strings.Trim(dir, "/")
		return dir == "" || p == dir || strings.HasPrefix(p, dir+"/")
	})
}
